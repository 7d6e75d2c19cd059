# Stands in for the package of an installed or built Slicer 5.12, as far as a scripted extension can see it: the same
# places, the same treatment of the lists. What Slicer takes silently and gets wrong (absolute paths, ../) is refused here.
set(Slicer_VERSION "5.12.0")
set(Slicer_LIB_DIR "lib/Slicer-5.12")
set(Slicer_SHARE_DIR "share/Slicer-5.12")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "${Slicer_LIB_DIR}/qt-scripted-modules")
set(Slicer_INSTALL_ROOT "")
set(Slicer_LAUNCHER_EXECUTABLE "Slicer")
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/GenerateConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/ExtensionCPack.cmake")

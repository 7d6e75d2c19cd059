include(CTest)

set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "${Slicer_INSTALL_ROOT}${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
set(FAKE_SLICER_DIR "${CMAKE_CURRENT_LIST_DIR}")
if(NOT FAKE_SLICER_PYTHON)
  message(FATAL_ERROR "Say which Python byte-compiles: -DFAKE_SLICER_PYTHON=/path/to/python")
endif()

# Refuses what the real macros would put elsewhere than one thinks.
function(fake_slicer_check_entry entry)
  if(IS_ABSOLUTE "${entry}" OR "${entry}" MATCHES "\\.\\.")
    message(FATAL_ERROR "'${entry}' is not below ${CMAKE_CURRENT_SOURCE_DIR}: it would be copied to a wrong place")
  endif()
  if(IS_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/${entry}")
    message(FATAL_ERROR "'${entry}' is a folder: only files are copied")
  endif()
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${entry}")
    message(FATAL_ERROR "There is no '${entry}' in ${CMAKE_CURRENT_SOURCE_DIR}")
  endif()
endfunction()

# Scripts and resources go to one folder of the build tree, paths kept; scripts are byte-compiled beside themselves
# (a.py -> a.pyc); then that whole folder is installed, whatever else has been put there.
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(PARSE_ARGV 0 M "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES")
  if(M_UNPARSED_ARGUMENTS OR NOT M_NAME OR NOT M_SCRIPTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule needs NAME and SCRIPTS and knows no '${M_UNPARSED_ARGUMENTS}'")
  endif()
  set(destination "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  set(installed "${destination}/")
  if(M_WITH_SUBDIR)
    get_filename_component(folder "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
    string(APPEND destination "/${folder}")
    set(installed "${destination}")
  endif()
  set(scripts)
  foreach(script IN LISTS M_SCRIPTS)
    # The longest extension, as CTK looks at it: x.y.z is not completed, x.typed becomes x.typed.py.
    get_filename_component(extension "${script}" EXT)
    if(NOT extension MATCHES "py")
      string(APPEND script ".py")
    endif()
    list(APPEND scripts "${script}")
  endforeach()
  set(copies)
  foreach(entry IN LISTS scripts M_RESOURCES)
    fake_slicer_check_entry("${entry}")
    set(source "${CMAKE_CURRENT_SOURCE_DIR}/${entry}")
    add_custom_command(OUTPUT "${destination}/${entry}" DEPENDS "${source}"
      COMMAND "${CMAKE_COMMAND}" -E copy "${source}" "${destination}/${entry}")
    list(APPEND copies "${destination}/${entry}")
  endforeach()
  set(compiled "${CMAKE_CURRENT_BINARY_DIR}/python_compile_${M_NAME}_complete")
  string(REPLACE ";" "\n" script_lines "${scripts}")
  file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/scripts.txt" "${script_lines}\n")
  add_custom_command(OUTPUT "${compiled}" DEPENDS ${copies}
    COMMAND "${FAKE_SLICER_PYTHON}" "${FAKE_SLICER_DIR}/compile.py" "${destination}"
            "${CMAKE_CURRENT_BINARY_DIR}/scripts.txt" "${compiled}")
  add_custom_target(Compile${M_NAME}PythonFiles ALL DEPENDS "${compiled}")
  install(DIRECTORY "${installed}" DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}"
    COMPONENT RuntimeLibraries USE_SOURCE_PERMISSIONS)
  if(BUILD_TESTING AND M_WITH_GENERIC_TESTS)
    add_test(NAME py_nomainwindow_qSlicer${M_NAME}ModuleGenericTest COMMAND "${Slicer_LAUNCHER_EXECUTABLE}" --testing)
  endif()
endfunction()

function(slicer_add_python_test)
  cmake_parse_arguments(PARSE_ARGV 0 T "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS;SCRIPT_ARGS")
  fake_slicer_check_entry("${T_SCRIPT}")
  get_filename_component(name "${T_SCRIPT}" NAME_WE)
  add_test(NAME "py_${T_TESTNAME_PREFIX}${name}"
    COMMAND "${Slicer_LAUNCHER_EXECUTABLE}" --no-splash --testing ${T_SLICER_ARGS}
            --python-script "${CMAKE_CURRENT_SOURCE_DIR}/${T_SCRIPT}" ${T_SCRIPT_ARGS})
endfunction()

function(slicer_add_python_unittest)
  cmake_parse_arguments(PARSE_ARGV 0 T "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS")
  fake_slicer_check_entry("${T_SCRIPT}")
  get_filename_component(name "${T_SCRIPT}" NAME_WE)
  add_test(NAME "py_${T_TESTNAME_PREFIX}${name}"
    COMMAND "${Slicer_LAUNCHER_EXECUTABLE}" --no-splash --testing ${T_SLICER_ARGS} --python-code "run ${name}")
endfunction()

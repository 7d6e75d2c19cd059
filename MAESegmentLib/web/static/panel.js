const KEYS = { Escape: "look", 1: "paint", 2: "erase", 3: "scissors", 4: "threshold", 5: "islands", 6: "smooth", 7: "combine" };

// Keys that choose tools, while the section with the tools is seen and nobody types.
document.addEventListener("keydown", (event) => {
  const section = document.getElementById("section-correct");
  if (!section || section.offsetParent === null || event.altKey || event.target.closest("input, textarea")) return;
  const key = event.key.toLowerCase();
  let id = event.ctrlKey || event.metaKey ? null : KEYS[event.key] && `tool-${KEYS[event.key]}`;
  if (event.ctrlKey || event.metaKey) id = key === "z" ? (event.shiftKey ? "redo" : "undo") : key === "y" ? "redo" : null;
  const button = id && document.getElementById(id);
  if (button) {
    event.preventDefault();
    button.click();
  }
});

// Names for a screen reader that the libraries of the page leave out: of lists that drop down, buttons
// that unfold, and the views' pictures.
new MutationObserver(() => {
  for (const field of document.querySelectorAll(".v-field[role=combobox]:not([aria-label])")) {
    const name = field.querySelector("input")?.getAttribute("aria-label") || field.querySelector("label")?.textContent;
    if (name) field.setAttribute("aria-label", name);
  }
  for (const button of document.querySelectorAll(".v-card-item button:not([aria-label])")) {
    button.setAttribute("aria-label", button.closest(".v-card-item").textContent.trim());
  }
  for (const thing of document.querySelectorAll("#section-correct :is(button[aria-describedby], .v-slider-thumb):not([aria-label])")) {
    let around = thing.parentElement;
    while (around && !around.querySelector(".text-subtitle-2")) around = around.parentElement;
    const tip = document.getElementById(thing.getAttribute("aria-describedby"))?.textContent.trim();
    const name = tip || around?.querySelector(".text-subtitle-2").textContent.trim();
    if (name && !/[a-z]/i.test(thing.textContent)) thing.setAttribute("aria-label", name);
  }
  for (const picture of document.querySelectorAll("img:not([alt])")) {
    let around = picture.parentElement;
    while (around && !around.querySelector(".view-name")) around = around.parentElement;
    if (around) picture.alt = around.querySelector(".view-name").title;
  }
}).observe(document.documentElement, { childList: true, subtree: true, attributeFilter: ["aria-describedby"] });

// Connects again by itself: the page is loaded anew as soon as the server responds. Each try waits longer, and a
// session that crashes at once is not started again and again.
async function reconnect(wait) {
  if (!document.getElementById("lost")) return setTimeout(reconnect, 1000, 1000);
  try {
    const response = await fetch("heartbeat");
    const isSoon = Date.now() - Number(sessionStorage.getItem("reconnected")) < 30000;
    if (response.ok && !isSoon) {
      sessionStorage.setItem("reconnected", Date.now());
      return location.reload();
    }
    if (!response.ok) document.getElementById("lost-why").textContent = await response.text();
  } catch {
    // It does not run yet.
  }
  setTimeout(reconnect, wait, Math.min(2 * wait, 30000));
}
reconnect(1000);

window.maesegment = {
  choose(id) {
    document.getElementById(id).click();
  },

  // Sends chosen files to the session one after the other, as they are; what arrived is told to the panel.
  async upload(input, trame) {
    const files = Array.from(input.files).filter((file) => !file.name.startsWith("."));
    input.value = "";
    if (files.length === 0) return;
    const total = files.reduce((sum, file) => sum + file.size, 0) || 1;
    const upload = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
    const name = files.length === 1 ? files[0].name : (files[0].webkitRelativePath || files[0].name).split("/")[0];
    const limit = trame.state.get("upload_limit");
    let sent = 0;
    let shown = 0;
    const show = (bytes) => {
      const percent = Math.round((100 * bytes) / total);
      if (percent !== shown) trame.state.set("upload_percent", (shown = percent));
    };
    trame.state.set("upload_percent", 0);
    trame.state.set("is_uploading", true);
    try {
      // The server counts for itself; here it can still be said before anything is sent.
      if (total > limit) throw new Error(`Too large: ${Math.round(limit / 2 ** 20)} MB may be uploaded in all. Choose fewer files.`);
      for (const [number, file] of files.entries()) {
        await this.put(`upload/${upload}/${number}?name=${encodeURIComponent(file.name)}`, file, (part) => show(sent + part));
        show((sent += file.size));
      }
      await trame.trigger(input.dataset.trigger || "uploaded", [upload, name]);
    } catch (error) {
      await trame.trigger("upload_failed", [upload, String(error.message || error)]);
    } finally {
      trame.state.set("is_uploading", false);
    }
  },

  put(url, file, progress) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("PUT", url);
      request.upload.onprogress = (event) => progress(event.loaded);
      request.onload = () => (request.status === 200 ? resolve() : reject(new Error(request.responseText)));
      request.onerror = () => reject(new Error("The connection was lost. Choose the files again."));
      request.send(file);
    });
  },
};

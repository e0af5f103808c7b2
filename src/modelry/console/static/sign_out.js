// Who signs out leaves no conversation behind, in this tab or in another of this browser.
const channel = new BroadcastChannel("modelry-sign-out");

/** An answer may still come to a page whose person has left: it is not to be kept. */
export let signedOut = false;

function forget() {
  signedOut = true;
  for (const storage of [sessionStorage, localStorage]) {
    for (const name of Object.keys(storage)) {
      if (name.startsWith("modelry-chat:")) storage.removeItem(name);
    }
  }
}

channel.addEventListener("message", forget);
document.getElementById("sign-out")?.addEventListener("submit", () => {
  forget();
  channel.postMessage(null);
});

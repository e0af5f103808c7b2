// The first page: once the service has answered, a conversation with it begins, unless it had
// been running before this page was opened.
import { watchForAnswer } from "./first_answer.js";

const READ_MS = 1500; // so long that the first answer can be seen

const ran = document.querySelector("[data-talk]") !== null;
watchForAnswer(() => {
  const talk = document.querySelector("[data-talk]");
  if (talk && !ran) setTimeout(() => location.assign(talk.href), READ_MS);
});

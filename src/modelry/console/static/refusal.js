// What a refusal of the management API says, or that nobody answered.
import { t } from "./words.js";

/** The message of an answer that is none, for people. */
export async function refusalOf(answer) {
  try {
    const { error } = await answer.json();
    return error.hint ? `${error.message} (${error.hint})` : error.message;
  } catch {
    return t("shell_js.server_away");
  }
}

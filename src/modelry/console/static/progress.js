// The page of a service on its way: it keeps itself fresh, and asks for the first answer.
import { watchForAnswer } from "./first_answer.js";

watchForAnswer();

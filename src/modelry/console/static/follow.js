// Keeps the end of something that grows in view, until the person who reads it scrolls up.

/** A function to call whenever what `scroller` shows may have grown; `again()` begins anew. */
export function follower(scroller) {
  let following = true;
  let lastTop = 0;
  let waiting = false;

  scroller.addEventListener("scroll", () => {
    // Growth alone never moves it up.
    if (scroller.scrollTop < lastTop - 1) following = false;
    if (scroller.scrollTop + scroller.clientHeight >= scroller.scrollHeight - 2) following = true;
    lastTop = scroller.scrollTop;
  }, { passive: true });

  function look() {
    waiting = false;
    if (following) scroller.scrollTop = scroller.scrollHeight;
    lastTop = scroller.scrollTop;
  }

  function follow() {
    // Once for all that comes between two pictures: to measure is to lay out.
    if (!waiting) requestAnimationFrame(look);
    waiting = true;
  }
  follow.again = () => {
    following = true;
    follow();
  };
  return follow;
}

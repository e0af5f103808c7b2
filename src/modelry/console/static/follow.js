// Keeps the end of something that grows in view, until the person who reads it scrolls up.

/** A function to call whenever `grown` may have grown. */
export function follower(grown) {
  let following = true;
  let lastY = null;
  let waiting = false;

  function look() {
    waiting = false;
    const below = grown.getBoundingClientRect().bottom - innerHeight;
    // Growth alone never moves a page up.
    if (lastY !== null && scrollY < lastY - 1) following = false;
    if (below <= 0) following = true;
    if (following && below > 0) scrollBy({ top: Math.ceil(below), behavior: "instant" });
    lastY = scrollY;
  }

  return () => {
    // Once for all that comes between two pictures: to measure is to lay out.
    if (!waiting) requestAnimationFrame(look);
    waiting = true;
  };
}

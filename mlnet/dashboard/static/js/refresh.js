// Repeats what the API cannot tell by itself: it has no stream of peers or of the list of tasks.

/**
 * Calls `load` now, and again every so many seconds while the page is seen.
 * @returns {() => void} calls it at once
 */
export function every(seconds, load, signal, warn) {
  let timer = 0;
  let running = false;
  async function once() {
    clearTimeout(timer);
    if (signal.aborted || running) return;
    running = true;
    try {
      await load();
      if (!signal.aborted) warn("");
    } catch (error) {
      if (!signal.aborted && error.name !== "AbortError") warn(error.message);
    }
    running = false;
    if (!signal.aborted && !document.hidden) timer = setTimeout(once, 1000 * seconds);
  }
  document.addEventListener("visibilitychange", () => document.hidden || once(), { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  once();
  return once;
}

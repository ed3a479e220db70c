// What time it is for the cluster: the browser's clock may be another one.

let ahead = 0;
let isSet = false;

/** The cluster's time as a node just said it; the first counts. */
export function heard(nowMs) {
  if (isSet) return;
  isSet = true;
  ahead = nowMs - Date.now();
}

/** Milliseconds since 1970. */
export function clusterNow() {
  return Date.now() + ahead;
}

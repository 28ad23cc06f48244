// What the address says: see `open` in driver/trial.mjs.

export const query = Object.fromEntries(new URLSearchParams(location.search));

const json = (text) => (text === undefined ? undefined : JSON.parse(text));

/** Of the provider, in both generations of the API. */
export const provider = {
  runtimeUrl: query.runtimeUrl,
  headers: json(query.headers),
  properties: json(query.properties),
  credentials: query.credentials,
  // Left out unless it is said, because "automatic" is what a page gets that says nothing.
  ...(query.single ? { useSingleEndpoint: query.single === "on" } : {}),
  enableInspector: query.inspector === "on",
};

// The scenarios by name. test_e2e.py finds them by their source: `core("name", ...` at the beginning
// of a line is one that `make test` runs, `more("name", ...` one that only `make e2e` does.

export const SCENARIOS = new Map();

const add = (name, run) => {
  if (SCENARIOS.has(name)) {
    throw new Error(`there are two scenarios named ${name}`);
  }
  SCENARIOS.set(name, run);
};

export const core = add;
export const more = add;

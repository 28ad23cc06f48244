// Prints the schemas that a published generation of the clients validates with, in the notation
// of sansio_copilot/events/client_schema_texts.py: `node schemas.mjs 0` for 0.0.59, `node schemas.mjs 1` for 1.0.0.
//
// Each generation brings its own zod (3 and 4), so nothing here imports one: both keep the parts of
// a schema under `def` or `_def`, and name their kinds alike but for the spelling.

import { createRequire } from "node:module";
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

const CLIENTS = { 0: "ag-ui-client-0", 1: "@ag-ui/client" };
const MODULES = { 0: "@ag-ui/core", 1: "@ag-ui/core/schemas" };

/** The module of schemas that the client of this generation loads. */
export function loadSchemas(generation) {
  const client = fileURLToPath(import.meta.resolve(CLIENTS[generation]));
  return createRequire(realpathSync(client))(MODULES[generation]);
}

const BASE = ["timestamp", "rawEvent", "metadata"];
const partsOf = (schema) => schema.def ?? schema._def;
const kindOf = (schema) =>
  (partsOf(schema).typeName ?? partsOf(schema).type).toLowerCase().replace(/^zod/, "");

/** The fields of an object schema, or undefined. */
function fieldsOf(schema) {
  if (kindOf(schema) !== "object") return undefined;
  return typeof partsOf(schema).shape === "function" ? partsOf(schema).shape() : partsOf(schema).shape;
}

/** [the schema without what makes it optional, whether it may be absent]. */
function unwrapped(schema) {
  const optional = schema.safeParse(undefined).success;
  let inner = schema;
  for (;;) {
    const parts = partsOf(inner);
    switch (kindOf(inner)) {
      case "optional":
      case "nullable":
      case "default":
        inner = parts.innerType;
        break;
      case "effects":
        inner = parts.schema;
        break;
      case "pipe":
        inner = parts.in;
        break;
      default:
        return [inner, optional];
    }
  }
}

const literalOf = (schema) => partsOf(schema).values?.[0] ?? partsOf(schema).value;

class Printer {
  constructor(module) {
    this.names = new Map();
    for (const [name, schema] of Object.entries(module)) {
      const short = name.replace(/Schemas?$/, "");
      // The shortest of several names of one schema is kept, because it is the new one.
      if (short !== name && (this.names.get(schema) ?? short).length >= short.length) {
        this.names.set(schema, short);
      }
    }
    this.definitions = new Map();
  }

  /** What `schema`, which may stand in a wrapper that has the name, is called. */
  reference(schema, whole) {
    const name = this.names.get(schema) ?? this.names.get(whole);
    if (name === undefined) throw new Error(`a ${kindOf(schema)} that has no name`);
    if (!this.definitions.has(name)) {
      this.definitions.set(name, undefined);
      const definition = fieldsOf(schema) ? this.object(schema) : this.variants(schema);
      this.definitions.delete(name);
      this.definitions.set(name, definition);
    }
    return name;
  }

  object(schema) {
    const fields = Object.entries(fieldsOf(schema));
    const isEvent = BASE.every((base) => fields.some(([name]) => name === base));
    const members = fields
      .filter(([name]) => !(isEvent && BASE.includes(name)))
      .map(([name, field]) => this.field(name, field))
      .sort();
    if (isEvent) {
      members.push("...Base");
      const base = fields.filter(([name]) => BASE.includes(name));
      const printed = base.map(([name, field]) => this.field(name, field)).sort();
      this.definitions.set("Base", `{ ${printed.join("; ")} }`);
    }
    return `${refusesUnknown(schema) ? "only " : ""}{ ${members.join("; ")} }`;
  }

  field(name, schema) {
    const [inner, optional] = unwrapped(schema);
    return `${name}${optional ? "?" : ""}: ${this.type(inner, schema)}`;
  }

  variants(schema) {
    const { discriminator } = partsOf(schema);
    const options = partsOf(schema).options;
    const list = options instanceof Map ? [...options.values()] : options;
    const references = list.map((option) => {
      if (!this.names.has(option)) {
        const tag = literalOf(fieldsOf(option)[discriminator]);
        this.names.set(option, `${tag[0].toUpperCase()}${tag.slice(1)}Variant`);
      }
      return this.reference(option);
    });
    return `by ${discriminator}: ${references.join(" | ")}`;
  }

  type(schema, whole = schema) {
    const parts = partsOf(schema);
    switch (kindOf(schema)) {
      case "string":
        return schema.safeParse("x").success ? "string" : "pointer";
      case "number":
        if (schema.safeParse(1.5).success) return "number";
        return schema.safeParse(-1).success ? "integer" : "count";
      case "boolean":
        return "boolean";
      case "literal":
        return JSON.stringify(literalOf(schema));
      case "enum":
      case "nativeenum": {
        const values = parts.entries ?? parts.values;
        return Object.values(values).map((value) => JSON.stringify(value)).join(" | ");
      }
      case "array": {
        const element = parts.element ?? parts.type;
        const atLeastOne = schema.safeParse([]).success ? "" : "+";
        return `${this.type(unwrapped(element)[0], element)}[]${atLeastOne}`;
      }
      case "any":
      case "unknown":
        return whole.safeParse(null).success ? "any" : "value";
      case "record":
      case "custom":
        return "object";
      case "object":
      case "discriminatedunion":
        return this.reference(schema, whole);
      case "union":
        if (parts.discriminator) return this.reference(schema, whole);
        return parts.options.map((option) => this.type(unwrapped(option)[0], option)).join(" | ");
      default:
        throw new Error(`a schema of kind ${kindOf(schema)}`);
    }
  }
}

/** Whether an object with a member that the schema does not have is refused; else it is ignored. */
const refusesUnknown = (schema) =>
  partsOf(schema).unknownKeys === "strict" ||
  (partsOf(schema).catchall?.def && kindOf(partsOf(schema).catchall) === "never");

export function print(generation) {
  const module = loadSchemas(generation);
  const printer = new Printer(module);
  printer.names.set(module.EventSchemas, "Event");
  printer.reference(module.EventSchemas);
  return [...printer.definitions].map(([name, text]) => `${name} = ${text}`).join("\n");
}

console.log(print(process.argv[2]));

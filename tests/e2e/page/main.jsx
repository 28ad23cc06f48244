// One page for all scenarios; its address says what it shows and which runtime it asks.

import { createElement, StrictMode } from "react";
import { createRoot } from "react-dom/client";

import "@copilotkit/react-core/v2/styles.css";

import { query } from "./query.js";
import * as features from "./v2.jsx";
import * as legacy from "./v1.jsx";

const Page = { ...features, ...legacy }[query.page ?? "Chat"];
const page = createElement(Page);
createRoot(document.getElementById("root")).render(
  query.strict ? createElement(StrictMode, null, page) : page,
);

import { expect, it } from "vitest";
import { vmIn } from "./project.ts";

const id = "5768cf25-dddf-4251-a895-149e3ed798ef";

it.each([
  [{}, "web", "web"],
  [{ project: "" }, "web", "web"],
  [{ project: "shop" }, "web", "shop/web"],
  [{ project: "shop" }, "other/web", "other/web"],
  [{ project: "shop" }, id, id],
])("in %j, %s is asked for as %s", (options, name, reference) => {
  expect(vmIn(options, name)).toBe(reference);
});

import { expect, test } from "bun:test";
import { formatKey, type Key, keyOfText } from "./key.ts";

test.each([
  { kind: "Pod", namespace: "default", name: "web" },
  { kind: "Pod", namespace: "a", name: "b/c" },
  { kind: "Node", namespace: undefined, name: "n1.example" },
  { kind: "IPAMBlock", namespace: undefined, name: "fd00--/122" },
] as Key[])("the text of a key reads back as the key: %p", (key) => {
  expect(keyOfText(key.kind, formatKey(key))).toEqual(key);
});

/** The embedded API and the Python client, whose watches read line by line. Other clients: `test/kubernetes/clients.test.ts`. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { PYTHON_SAW, pythonSession } from "../clients/sessions.ts";
import { Lab } from "./fixture.ts";

const lab = new Lab();
beforeAll(() => lab.up("--nodes", "1"), 60_000);
afterAll(() => lab.down(), 30_000);

test("the Python client makes, watches, changes and deletes objects", async () => {
  const said = await pythonSession({ kubeconfig: lab.kubeconfig }, "python-session");
  expect(said).toEqual({ exitCode: 0, lines: PYTHON_SAW, stderr: "" });
}, 60_000);

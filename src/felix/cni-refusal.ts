/** CniRefusal: a CNI error object on its way to the plugin. */
import type { CniError } from "../podnet/protocol.ts";

export class CniRefusal extends Error {
  override readonly name = "CniRefusal";
  readonly answer: CniError;
  constructor(code: number, msg: string, details?: string) {
    super(msg);
    this.answer = details === undefined ? { code, msg } : { code, msg, details };
  }
}

/** Errors: collects what is wrong with an object, field by field. */
import type { FieldError } from "../../schema/field-error.ts";

export class Errors {
  readonly list: FieldError[] = [];

  invalid(field: string, value: unknown, detail: string): void {
    this.list.push({ field, reason: "Invalid", value, detail });
  }

  forbidden(field: string, value: unknown, detail: string): void {
    this.list.push({ field, reason: "Forbidden", value, detail });
  }

  required(field: string, detail: string): void {
    this.list.push({ field, reason: "Required", value: undefined, detail });
  }

  add(errors: readonly FieldError[]): void {
    this.list.push(...errors);
  }
}

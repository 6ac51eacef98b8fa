/** FieldError: one error in one field of an object, with Kubernetes' wording, so that admission, CNI answers and Events agree. */
export interface FieldError {
  /** `spec.ingress[0].ports[1].endPort`; `<nil>` for the whole object. */
  readonly field: string;
  readonly reason:
    | "Required"
    | "Invalid"
    | "NotSupported"
    | "TypeInvalid"
    | "Duplicate"
    | "Forbidden"
    | "TooLong"
    | "TooMany"
    | "NotFound";
  /** The value found; undefined for `Required`. */
  readonly value: unknown;
  /** What is allowed: `must be between 1 and 65535, inclusive`; for `NotSupported` the supported values, quoted. */
  readonly detail: string;
}

/** `spec.order: Invalid value: "x": must be a number`, as kube-apiserver prints it (field.Error in apimachinery). */
export function formatFieldError(error: FieldError): string {
  const value = typeof error.value === "string" ? JSON.stringify(error.value) : (JSON.stringify(error.value) ?? "null");
  switch (error.reason) {
    case "Required":
      return `${error.field}: Required value${error.detail === "" ? "" : `: ${error.detail}`}`;
    case "NotSupported":
      return `${error.field}: Unsupported value: ${value}: supported values: ${error.detail}`;
    case "Duplicate":
      return `${error.field}: Duplicate value: ${value}`;
    case "NotFound":
      return `${error.field}: Not found: ${value}`;
    case "Forbidden":
      return `${error.field}: Forbidden: ${error.detail}`;
    case "TooLong":
      return `${error.field}: Too long: ${error.detail}`;
    case "TooMany":
      return `${error.field}: Too many: ${error.detail}`;
    case "Invalid":
    case "TypeInvalid":
      return `${error.field}: Invalid value: ${value}: ${error.detail}`;
  }
}

/** BuiltIn: the parts that all built-in kinds share, so that each kind's file says only what is particular to it. */
import type { Column, ResourceType } from "../resource-type.ts";
import { AGE_COLUMN, NAME_COLUMN } from "./columns.ts";
import { schemaOf } from "./overlay.ts";

export interface Particulars extends Partial<Omit<ResourceType, "versions" | "storageVersion" | "builtIn">> {
  readonly kind: string;
  readonly plural: string;
  /** Name in `shapes.ts`. */
  readonly shape: string;
  readonly namespaced: boolean;
  /** Columns between Name and Age, or after Age for wide ones; all of them when `columns` is given. */
  readonly middle?: readonly Column[];
  readonly columns?: readonly Column[];
  readonly hasStatus?: boolean;
}

/** A kind of version v1. */
export function builtIn(particulars: Particulars): ResourceType {
  const { shape, middle = [], columns, hasStatus = false, ...rest } = particulars;
  const schema = schemaOf(shape);
  const shown = columns ?? [
    NAME_COLUMN,
    ...middle.filter((entry) => entry.priority === 0),
    AGE_COLUMN,
    ...middle.filter((entry) => entry.priority === 1),
  ];
  return {
    group: "",
    singular: rest.kind.toLowerCase(),
    listKind: `${rest.kind}List`,
    shortNames: [],
    categories: [],
    nameRule: "subdomain",
    hasGeneration: false,
    unconditionalUpdate: true,
    selectableFields: {},
    subresources: {},
    createsWithStatus: false,
    answersDeleted: false,
    ...rest,
    builtIn: true,
    storageVersion: "v1",
    versions: [{ name: "v1", schema, columns: shown, hasStatus }],
  };
}

/** Negotiate: which form of an answer the Accept header asks for, the first one that can be served. */
import { notAcceptable } from "../errors.ts";

export interface Format {
  readonly media: "application/json" | "application/yaml";
  readonly as: "object" | "table" | "metadata";
  /** `v1` or `v1beta1` of meta.k8s.io, for tables and metadata. */
  readonly version: string;
}

export interface MediaType {
  readonly type: string;
  readonly parameters: ReadonlyMap<string, string>;
}

export function parseAccept(header: string | null): MediaType[] {
  return (header ?? "*/*").split(",").map((part) => {
    const [type, ...parameters] = part.split(";").map((piece) => piece.trim());
    return {
      type: (type ?? "").toLowerCase(),
      parameters: new Map(
        parameters.map((piece) => [piece.slice(0, piece.indexOf("=")), piece.slice(piece.indexOf("=") + 1)]),
      ),
    };
  });
}

/** The form to answer in; a 406 when none of the accepted forms can be served. */
export function negotiate(header: string | null): Format {
  for (const { type, parameters } of parseAccept(header)) {
    const any = type === "*/*" || type === "application/*" || type === "";
    if (!any && type !== "application/json" && type !== "application/yaml") continue;
    const media = type === "application/yaml" ? "application/yaml" : "application/json";
    const as = parameters.get("as");
    if (as === undefined) return { media, as: "object", version: "" };
    const version = parameters.get("v") ?? "v1";
    if ((parameters.get("g") ?? "meta.k8s.io") !== "meta.k8s.io" || (version !== "v1" && version !== "v1beta1"))
      continue;
    if (as === "Table") return { media, as: "table", version };
    if (as === "PartialObjectMetadata" || as === "PartialObjectMetadataList") return { media, as: "metadata", version };
  }
  throw notAcceptable();
}

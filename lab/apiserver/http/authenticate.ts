/** Authenticate: bearer tokens. Every known token may do everything; without a token a client is `system:anonymous` and may do nothing. */
import { createHash, timingSafeEqual } from "node:crypto";
import { ApiError } from "../errors.ts";
import { flagOf } from "./request.ts";

export interface User {
  readonly name: string;
  readonly groups: readonly string[];
}

export class Tokens {
  /** By SHA-256 of the token, so that a look-up takes the same time for every wrong token. */
  readonly #users = new Map<string, User>();

  add(token: string, user: User): void {
    this.#users.set(digest(token), user);
  }

  /** The user of the Authorization header; undefined without one; 401 for a token that is not known. */
  authenticate(header: string | null): User | undefined {
    if (header === null || header === "") return undefined;
    const token = /^Bearer\s+(\S+)\s*$/i.exec(header)?.[1];
    const wanted = token === undefined ? "" : digest(token);
    for (const [known, user] of this.#users)
      if (wanted.length === known.length && timingSafeEqual(Buffer.from(wanted), Buffer.from(known))) return user;
    throw new ApiError(401, "Unauthorized", "Unauthorized");
  }
}

function digest(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

/** Users of a token file in kube-apiserver's form: lines `token,user,uid[,"group1,group2"]`. The error names the line. */
export function parseTokenFile(text: string): readonly { readonly token: string; readonly user: User }[] {
  return text.split("\n").flatMap((line, index) => {
    if (line.trim() === "" || line.startsWith("#")) return [];
    const match = /^([^,\s]+),([^,]+),([^,]*)(?:,"?([^"]*)"?)?\s*$/.exec(line);
    if (match === null)
      throw new Error(`Cannot read line ${index + 1} of the token file: it must be token,user,uid[,"group1,group2"]`);
    const [, token = "", name = "", , groups = ""] = match;
    return [{ token, user: { name, groups: groups.split(",").filter((group) => group !== "") } }];
  });
}

/** 403 for a client without a token. */
export function forbiddenAnonymous(
  method: string,
  target:
    | {
        readonly group: string;
        readonly resource: string;
        readonly namespace: string | undefined;
        readonly name: string | undefined;
        readonly subresource: string | undefined;
      }
    | undefined,
  path: string,
  query: URLSearchParams,
): ApiError {
  const many = target !== undefined && target.name === undefined;
  const verb =
    {
      GET: many ? (flagOf(query, "watch") ? "watch" : "list") : "get",
      POST: target === undefined ? "post" : "create",
      PUT: target === undefined ? "put" : "update",
      PATCH: "patch",
      DELETE: many ? "deletecollection" : "delete",
    }[method] ?? method.toLowerCase();
  if (target === undefined)
    return new ApiError(
      403,
      "Forbidden",
      `forbidden: User "system:anonymous" cannot ${verb} path ${JSON.stringify(path)}`,
      {},
    );
  const subject = `${target.resource}${target.group === "" ? "" : `.${target.group}`}${target.name === undefined ? "" : ` ${JSON.stringify(target.name)}`}`;
  const scope =
    target.namespace === undefined ? "at the cluster scope" : `in the namespace ${JSON.stringify(target.namespace)}`;
  const message = `${subject} is forbidden: User "system:anonymous" cannot ${verb} resource ${JSON.stringify(`${target.resource}${target.subresource === undefined ? "" : `/${target.subresource}`}`)} in API group ${JSON.stringify(target.group)} ${scope}`;
  return new ApiError(403, "Forbidden", message, {
    ...(target.name === undefined ? {} : { name: target.name }),
    ...(target.group === "" ? {} : { group: target.group }),
    kind: target.resource,
  });
}

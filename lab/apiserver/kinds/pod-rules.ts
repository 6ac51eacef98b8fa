/** PodRules: what Kubernetes requires of the containers and volumes of a Pod. Source: pkg/apis/core/validation/validation.go. */
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import { arrayAt, isJsonObject, type JsonObject, objectAt, stringAt } from "../../../src/model/schema/json.ts";
import { parseAddr } from "../../../src/net/addr.ts";
import { nameProblems, qualifiedNameProblems, validateLabels } from "../objects/metadata.ts";
import { canonicalQuantity, compareQuantities } from "./quantity.ts";

function requiredError(field: string, detail = ""): FieldError {
  return { field, reason: "Required", value: undefined, detail };
}

function invalidError(field: string, value: unknown, detail: string): FieldError {
  return { field, reason: "Invalid", value, detail };
}

/** A port number must be 1 to 65535. */
export function portProblems(field: string, value: unknown): FieldError[] {
  return typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= 65535
    ? []
    : [invalidError(field, value, "must be between 1 and 65535, inclusive")];
}

/** What is wrong with an IANA service name such as `http`: 1 to 15 letters, digits and single dashes, with a letter. */
export function portNameProblems(name: string): string[] {
  const problems: string[] = [];
  if (name.length > 15) problems.push("must be no more than 15 characters");
  if (!/^[-a-z0-9]+$/.test(name))
    problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
  if (!/[a-z]/.test(name)) problems.push("must contain at least one letter (a-z)");
  if (name.includes("--")) problems.push("must not contain consecutive hyphens");
  if (name.startsWith("-") || name.endsWith("-")) problems.push("must not begin or end with a hyphen");
  return problems;
}

export function validateContainers(spec: JsonObject): FieldError[] {
  const errors: FieldError[] = [];
  const names = new Set<string>();
  const containers = arrayAt(spec["containers"]);
  if (containers.length === 0) errors.push(requiredError("spec.containers"));
  for (const list of ["initContainers", "containers"]) {
    arrayAt(spec[list]).forEach((entry, index) => {
      const path = `spec.${list}[${index}]`;
      const container = objectAt(entry);
      const name = stringAt(container["name"]);
      if (name === "") errors.push(requiredError(`${path}.name`));
      else errors.push(...nameProblems("label", name).map((detail) => invalidError(`${path}.name`, name, detail)));
      if (names.has(name)) errors.push({ field: `${path}.name`, reason: "Duplicate", value: name, detail: "" });
      names.add(name);
      const image = stringAt(container["image"]);
      if (image === "") errors.push(requiredError(`${path}.image`));
      else if (image !== image.trim())
        errors.push(invalidError(`${path}.image`, image, "must not have leading or trailing whitespace"));
      errors.push(
        ...validatePorts(container, path, spec["hostNetwork"] === true),
        ...validateResources(container, path),
        ...validateEnvironment(container, path),
        ...validateMounts(spec, container, path),
      );
    });
  }
  return errors;
}

const QUANTITY_WORDS = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/** Amounts must be quantities; a request may not be larger than the limit. */
function validateResources(container: JsonObject, path: string): FieldError[] {
  const resources = objectAt(container["resources"]);
  const limits = objectAt(resources["limits"]);
  const bad = ["limits", "requests"].flatMap((field) =>
    Object.entries(objectAt(resources[field]))
      .filter(([, value]) => canonicalQuantity(value) === undefined)
      .map(([name, value]) => invalidError(`${path}.resources.${field}[${name}]`, value, QUANTITY_WORDS)),
  );
  if (bad.length > 0) return bad;
  return Object.entries(objectAt(resources["requests"])).flatMap(([name, request]): FieldError[] => {
    const [wanted, limit] = [canonicalQuantity(request), canonicalQuantity(limits[name] ?? null)];
    if (wanted === undefined || limit === undefined || compareQuantities(wanted, limit) <= 0) return [];
    return [
      invalidError(`${path}.resources.requests`, wanted, `must be less than or equal to ${name} limit of ${limit}`),
    ];
  });
}

function validatePorts(container: JsonObject, path: string, hostNetwork: boolean): FieldError[] {
  const names = new Set<string>();
  return arrayAt(container["ports"]).flatMap((entry, index) => {
    const port = objectAt(entry);
    const at = `${path}.ports[${index}]`;
    const errors: FieldError[] = [];
    const name = stringAt(port["name"]);
    if (name !== "") {
      const problems = portNameProblems(name);
      errors.push(...problems.map((detail) => invalidError(`${at}.name`, name, detail)));
      if (names.has(name)) errors.push({ field: `${at}.name`, reason: "Duplicate", value: name, detail: "" });
      names.add(name);
    }
    if (port["containerPort"] === undefined) errors.push(requiredError(`${at}.containerPort`));
    else errors.push(...portProblems(`${at}.containerPort`, port["containerPort"]));
    if (port["hostPort"] !== undefined && port["hostPort"] !== 0)
      errors.push(...portProblems(`${at}.hostPort`, port["hostPort"]));
    if (hostNetwork && port["hostPort"] !== undefined && port["hostPort"] !== port["containerPort"])
      errors.push(
        invalidError(`${at}.hostPort`, port["hostPort"], "must match `containerPort` when `hostNetwork` is true"),
      );
    return errors;
  });
}

function validateEnvironment(container: JsonObject, path: string): FieldError[] {
  return arrayAt(container["env"]).flatMap((entry, index) => {
    const variable = objectAt(entry);
    const at = `${path}.env[${index}]`;
    const errors: FieldError[] = stringAt(variable["name"]) === "" ? [requiredError(`${at}.name`)] : [];
    if (isJsonObject(variable["valueFrom"]) && stringAt(variable["value"]) !== "")
      errors.push(invalidError(`${at}.valueFrom`, "", "may not be specified when `value` is not empty"));
    return errors;
  });
}

function validateMounts(spec: JsonObject, container: JsonObject, path: string): FieldError[] {
  const volumes = new Set(arrayAt(spec["volumes"]).map((entry) => stringAt(objectAt(entry)["name"])));
  const paths = new Set<string>();
  return arrayAt(container["volumeMounts"]).flatMap((entry, index) => {
    const mount = objectAt(entry);
    const at = `${path}.volumeMounts[${index}]`;
    const [name, mountPath] = [stringAt(mount["name"]), stringAt(mount["mountPath"])];
    const errors: FieldError[] = [];
    if (name === "") errors.push(requiredError(`${at}.name`));
    else if (!volumes.has(name)) errors.push({ field: `${at}.name`, reason: "NotFound", value: name, detail: "" });
    if (mountPath === "") errors.push(requiredError(`${at}.mountPath`));
    else if (paths.has(mountPath)) errors.push(invalidError(`${at}.mountPath`, mountPath, "must be unique"));
    paths.add(mountPath);
    return errors;
  });
}

export function validateVolumes(spec: JsonObject): FieldError[] {
  const names = new Set<string>();
  return arrayAt(spec["volumes"]).flatMap((entry, index) => {
    const at = `spec.volumes[${index}]`;
    const name = stringAt(objectAt(entry)["name"]);
    const errors: FieldError[] =
      name === ""
        ? [requiredError(`${at}.name`)]
        : nameProblems("label", name).map((detail) => invalidError(`${at}.name`, name, detail));
    if (names.has(name)) errors.push({ field: `${at}.name`, reason: "Duplicate", value: name, detail: "" });
    names.add(name);
    const [, second] = Object.keys(objectAt(entry))
      .filter((field) => field !== "name")
      .sort();
    if (second !== undefined)
      errors.push({
        field: `${at}.${second}`,
        reason: "Forbidden",
        value: undefined,
        detail: "may not specify more than 1 volume type",
      });
    return errors;
  });
}

const OPERATORS = ["Equal", "Exists"];

/** What is wrong with the fields of `spec` beside containers and volumes. */
export function validateSpec(spec: JsonObject): FieldError[] {
  const errors: FieldError[] = [];
  const deadline = spec["activeDeadlineSeconds"];
  if (typeof deadline === "number" && (deadline < 1 || deadline > 2147483647))
    errors.push(invalidError("spec.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive"));
  errors.push(...validateLabels(objectAt(spec["nodeSelector"]) as Record<string, string>, "spec.nodeSelector"));
  for (const field of ["hostname", "subdomain"]) {
    const name = stringAt(spec[field]);
    if (name !== "")
      errors.push(...nameProblems("label", name).map((detail) => invalidError(`spec.${field}`, name, detail)));
  }
  arrayAt(spec["tolerations"]).forEach((entry, index) => {
    const toleration = objectAt(entry);
    const at = `spec.tolerations[${index}]`;
    const [key, operator] = [stringAt(toleration["key"]), stringAt(toleration["operator"])];
    if (key !== "") errors.push(...qualifiedNameProblems(key).map((detail) => invalidError(`${at}.key`, key, detail)));
    else if (operator !== "Exists")
      errors.push(
        invalidError(
          `${at}.operator`,
          operator,
          'operator must be Exists when `key` is empty, which means "match all values and all keys"',
        ),
      );
    if (operator !== "" && !OPERATORS.includes(operator))
      errors.push({
        field: `${at}.operator`,
        reason: "NotSupported",
        value: operator,
        detail: OPERATORS.map((name) => JSON.stringify(name)).join(", "),
      });
  });
  return errors;
}

const ADDRESS_WORDS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/** Whether a text is an address, in Kubernetes' words. */
export function addressProblems(field: string, text: string): FieldError[] {
  return parseAddr(text).ok ? [] : [invalidError(field, text, ADDRESS_WORDS)];
}

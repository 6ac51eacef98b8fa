/** Rule validation: everything that is wrong with the rules of a policy or profile whose shape is right. */
import { parseAddr } from "../../../net/addr.ts";
import { parseNet, type Prefix, prefixAddr, prefixLength } from "../../../net/prefix.ts";
import type { EntityRule, Rule } from "../rule.ts";
import { WORDS } from "../words.ts";
import type { Errors } from "./errors.ts";
import { checkPorts, portsOf } from "./ports.ts";
import { checkNamespaceSelector, checkSelector } from "./selectors.ts";
import { checkAnnotations } from "./shape.ts";

/** What holds the rules: policies of a namespace, those of the cluster, or profiles. */
export type Holder = "namespaced" | "global" | "profile";
type Direction = "ingress" | "egress";

const SIDES = ["source", "destination"] as const;

export function checkRules(
  rules: readonly Rule[] | undefined,
  direction: Direction,
  holder: Holder,
  errors: Errors,
): void {
  rules?.forEach((rule, i) => checkRule(rule, `spec.${direction}[${i}]`, direction, holder, errors));
}

function checkRule(rule: Rule, path: string, direction: Direction, holder: Holder, errors: Errors): void {
  if (holder === "profile" && rule.action === "Pass")
    errors.invalid(`${path}.action`, rule.action, WORDS.passInProfile);
  checkIcmp(rule, path, errors);
  checkHttp(rule, path, direction, errors);
  for (const side of SIDES) {
    const entity = rule[side];
    if (entity !== undefined) checkEntity(entity, rule, `${path}.${side}`, errors);
  }
  checkFamilies(rule, path, errors);
  checkPlaces(rule, path, direction, holder, errors);
  const annotations = rule.metadata?.annotations;
  if (annotations !== undefined) checkAnnotations(annotations, `${path}.metadata.annotations`, errors);
}

const isIcmp = (protocol: number | string | undefined): boolean => protocol === "ICMP" || protocol === 1;
const isIcmp6 = (protocol: number | string | undefined): boolean => protocol === "ICMPv6" || protocol === 58;

function checkIcmp(rule: Rule, path: string, errors: Errors): void {
  const { icmp, notICMP, protocol, notProtocol, ipVersion } = rule;
  if (icmp !== undefined && !isIcmp(protocol) && !isIcmp6(protocol))
    errors.invalid(`${path}.icmp`, icmp, WORDS.icmpProtocol);
  if (icmp?.code !== undefined && icmp.type === undefined) errors.required(`${path}.icmp.type`, WORDS.icmpType);
  if (notICMP?.code !== undefined && notICMP.type === undefined)
    errors.required(`${path}.notICMP.type`, WORDS.icmpType);
  const field = `${path}.ipVersion`;
  if (isIcmp(protocol) && ipVersion === 6) errors.invalid(field, ipVersion, WORDS.version4);
  if (isIcmp6(protocol) && ipVersion === 4) errors.invalid(field, ipVersion, WORDS.version6);
  if (isIcmp(notProtocol) && ipVersion === 6) errors.invalid(field, ipVersion, WORDS.notVersion4);
  if (isIcmp6(notProtocol) && ipVersion === 4) errors.invalid(field, ipVersion, WORDS.notVersion6);
}

function checkHttp({ action, http, protocol }: Rule, path: string, direction: Direction, errors: Errors): void {
  if (http === undefined) return;
  if (action !== "Allow") errors.forbidden(`${path}.http`, http, WORDS.httpAction);
  if (direction === "egress") errors.forbidden(`${path}.http`, http, WORDS.httpEgress);
  if (protocol !== undefined && protocol !== "TCP" && protocol !== 6)
    errors.invalid(`${path}.protocol`, protocol, WORDS.httpProtocol);
  http.paths?.forEach((item, i) => {
    if (((item.exact ?? "") === "") === ((item.prefix ?? "") === ""))
      errors.invalid(`${path}.http.paths[${i}]`, item, WORDS.httpPath);
  });
}

function checkEntity(entity: EntityRule, rule: Rule, path: string, errors: Errors): void {
  checkSelector(entity.selector, `${path}.selector`, errors);
  checkSelector(entity.notSelector, `${path}.notSelector`, errors);
  checkNamespaceSelector(entity.namespaceSelector, `${path}.namespaceSelector`, errors);
  checkSelector(entity.serviceAccounts?.selector, `${path}.serviceAccounts.selector`, errors);
  checkNets(entity.nets, `${path}.nets`, false, errors);
  checkNets(entity.notNets, `${path}.notNets`, true, errors);
  const protocol = portsOf(rule.protocol);
  checkPorts(entity.ports, protocol, `${path}.ports`, errors);
  checkPorts(entity.notPorts, protocol, `${path}.notPorts`, errors);
  if (entity.services === undefined) return;
  if ((entity.services.name ?? "") === "") errors.required(`${path}.services.name`, WORDS.servicesName);
  for (const field of ["selector", "notSelector", "namespaceSelector", "nets", "notNets"] as const) {
    const value = entity[field];
    if (value !== undefined && value.length > 0) errors.forbidden(`${path}.${field}`, value, WORDS.servicesAlone);
  }
  if (entity.serviceAccounts !== undefined)
    errors.forbidden(`${path}.serviceAccounts`, entity.serviceAccounts, WORDS.servicesAlone);
}

function checkNets(nets: readonly string[] | undefined, path: string, isNegated: boolean, errors: Errors): void {
  nets?.forEach((text, i) => {
    const field = `${path}[${i}]`;
    const prefix = parseNet(text);
    if (!prefix.ok) return errors.invalid(field, text, WORDS.cidrOrAddress);
    if (isNegated && prefixLength(prefix.value) === 0) errors.invalid(field, text, WORDS.catchAll);
    if (!isMasked(text, prefix.value)) errors.invalid(field, text, WORDS.hostBits);
  });
}

/** Whether the host bits of the range in the text are zero, in whatever form its address is written. */
function isMasked(text: string, prefix: Prefix): boolean {
  if (text === prefix || !text.includes("/")) return true;
  const addr = parseAddr(text.slice(0, text.indexOf("/")));
  return addr.ok && addr.value === prefixAddr(prefix);
}

/** All ranges of a rule are of one family, and of the one that ipVersion gives. */
function checkFamilies(rule: Rule, path: string, errors: Errors): void {
  const seen = new Set<4 | 6>();
  for (const side of SIDES) {
    for (const field of ["nets", "notNets"] as const) {
      const nets = rule[side]?.[field] ?? [];
      const families = new Set(nets.map((net): 4 | 6 => (net.includes(":") ? 6 : 4)));
      const at = `${path}.${side}.${field}`;
      if (families.size > 1) errors.invalid(at, nets, WORDS.oneFamily);
      else if ([...families].some((family) => seen.size > 0 && !seen.has(family)))
        errors.invalid(at, nets, WORDS.familyOfRule);
      if (rule.ipVersion !== undefined && [...families].some((family) => family !== rule.ipVersion))
        errors.invalid(at, nets, WORDS.familyOfIpVersion);
      for (const family of families) seen.add(family);
    }
  }
}

/** Where services may stand, and what they need there. */
function checkPlaces(rule: Rule, path: string, direction: Direction, holder: Holder, errors: Errors): void {
  const [right, wrong] = direction === "ingress" ? SIDES : (["destination", "source"] as const);
  if (rule[wrong]?.services !== undefined)
    errors.forbidden(
      `${path}.${wrong}.services`,
      rule[wrong].services,
      direction === "ingress" ? WORDS.servicesInIngress : WORDS.servicesInEgress,
    );
  const services = rule[right]?.services;
  if (services !== undefined && holder !== "namespaced" && (services.namespace ?? "") === "")
    errors.required(`${path}.${right}.services.namespace`, WORDS.servicesNamespace);
  if (rule.destination?.services === undefined) return;
  for (const field of ["ports", "notPorts"] as const) {
    const ports = rule.destination[field];
    if (ports !== undefined && ports.length > 0)
      errors.forbidden(`${path}.destination.${field}`, ports, WORDS.servicesPorts);
  }
}

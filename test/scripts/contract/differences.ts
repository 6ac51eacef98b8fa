/**
 * differences: where the embedded API intentionally answers differently from Kubernetes. `docs/embedded-api.md` shows this list, and a test holds the
 * two together. A difference that is not listed fails the contract; so does one that is listed and no longer found.
 */
export interface IntendedDifference {
  /** What is concerned; each entry is a row of the document. */
  readonly what: string;
  /** What the embedded API does, and why. */
  readonly here: string;
  readonly where: readonly Where[];
}

export interface Where {
  readonly exchanges: readonly string[];
  /** Places in the answers of these exchanges: each must differ there, and nowhere else. */
  readonly at: readonly string[];
}

const WORDS = ["body.message"];
const WORDS_AND_CAUSES = ["body.message", "body.details"];
const WHOLE_ANSWER = ["status", "body"];

export const INTENDED: readonly IntendedDifference[] = [
  {
    what: "server-side apply",
    here: "415 with a message that names `kubectl apply`: field ownership is not recorded",
    where: [
      {
        at: WHOLE_ANSWER,
        exchanges: [
          "server-side apply of a new object",
          "server-side apply without a manager",
          "server-side apply against another manager",
          "server-side apply with force",
          "unknown field in an apply",
          "apply a custom object",
        ],
      },
      { at: WORDS, exchanges: ["strategic patch of a custom object"] },
      { at: ["exit", "stdout", "stderr"], exchanges: ["kubectl: apply at the server"] },
    ],
  },
  {
    what: "logs, exec, attach, port-forward",
    here: "501 with a message that names `calico-lab exec`: there is no kubelet",
    where: [
      { at: ["exit", "stderr"], exchanges: ["kubectl: logs of a pod without node"] },
      { at: ["stderr"], exchanges: ["kubectl: exec in a pod without node"] },
    ],
  },
  {
    what: "kinds that nothing here acts on",
    here: "not served: Deployments, token requests, access reviews and so on are unknown to kubectl, not silently idle",
    where: [
      {
        at: ["exit", "stdout", "stderr"],
        exchanges: [
          "kubectl: auth can-i",
          "kubectl: auth whoami",
          "kubectl: create token",
          "kubectl: create deployment",
        ],
      },
    ],
  },
  {
    what: "subresources in discovery",
    here: "only status, binding and finalize",
    where: [
      { at: ["body"], exchanges: ["resources of v1"] },
      { at: ["body.resources"], exchanges: ["aggregated resources of v1"] },
    ],
  },
  {
    what: "answers in protobuf",
    here: "JSON or YAML; 406 for a client that takes neither. Bodies in protobuf are read for the kinds that kubectl writes so",
    where: [
      { at: ["status", "headers.content-type", "form"], exchanges: ["answer in protobuf"] },
      { at: ["headers.content-type", "form", "body"], exchanges: ["custom object in protobuf"] },
      { at: [...WORDS_AND_CAUSES, "form"], exchanges: ["answer in a form that is not served"] },
      {
        at: [...WORDS, "form"],
        exchanges: ["custom object in a form that is not served", "table in a version that is not served"],
      },
    ],
  },
  {
    what: "white space in JSON",
    here: "none: Kubernetes indents when a client asks for it, and a few refusals; and it leaves `<`, `>` and `&` in OpenAPI as they are",
    where: [
      {
        at: ["form"],
        exchanges: [
          "pretty printing",
          "table of what does not exist",
          "includeObject that does not exist",
          "OpenAPI v2",
          "OpenAPI v2 in protobuf",
        ],
      },
    ],
  },
  {
    what: "service addresses of both families",
    here: "one range, so one family, as in a cluster with a single range; the other family is refused",
    where: [
      {
        at: ["body.spec"],
        exchanges: ["service: headless", "service: headless without ports", "service: both families"],
      },
      { at: WHOLE_ANSWER, exchanges: ["service: IPv6", "service: both families required, IPv6 first"] },
    ],
  },
  {
    what: "tokens of pods",
    here: "no volume with a token is mounted: there is no token to give",
    where: [{ at: ["body.spec"], exchanges: ["pod: a token is mounted"] }],
  },
  {
    what: "the taint of new nodes",
    here: "no `not-ready` taint: no controller would remove it",
    where: [
      { at: ["body.spec"], exchanges: ["node: plain", "node: pod range", "node: with status", "node: with taints"] },
    ],
  },
  {
    what: "orphaned dependents",
    here: "they lose their owner in the same step, so the owner goes at once",
    where: [{ at: ["body"], exchanges: ["delete the owner and orphan its dependents"] }],
  },
  {
    what: "watches below `/watch/`",
    here: "404: the paths are deprecated; `watch=true` is served",
    where: [{ at: ["status", "headers.content-type", "form", "events"], exchanges: ["a watch at the old path"] }],
  },
  {
    what: "pools",
    here: "the syntax of their selectors is checked at admission, as upstream's client library does; so are ranges that overlap",
    where: [{ at: WHOLE_ANSWER, exchanges: ["product: pool, selector"] }],
  },
  {
    what: "policies",
    here: "what their definitions cannot say is checked at admission: the grammar of selectors, host bits, ports in text, label selectors",
    where: [{ at: WHOLE_ANSWER, exchanges: ["product: policy, selector", "product: policy, host bits"] }],
  },
  {
    what: "malformed quantities",
    here: "422 naming the field, where Kubernetes answers 400 without one",
    where: [{ at: WHOLE_ANSWER, exchanges: ["pod refused: quantity"] }],
  },
  {
    what: "client errors that Kubernetes answers with 500",
    here: "400 or 422",
    where: [
      {
        at: WHOLE_ANSWER,
        exchanges: [
          "strategic patch with a wrong directive",
          "resourceVersion that is no number, one object",
          "resourceVersion that is no number, watch",
          "bind to nothing",
        ],
      },
    ],
  },
  {
    what: "malformed bodies",
    here: "refused with the same status and its own message, not Go's",
    where: [
      {
        at: WORDS,
        exchanges: [
          "object of another version",
          "object of another group",
          "object of another kind",
          "object of a kind that is not served",
          "body that is no JSON",
          "empty body",
          "body that is a list",
          "body in bad YAML",
          "JSON patch that is no list",
          "merge patch that is a list",
          "merge patch that is no JSON",
          "continue that is no token",
        ],
      },
      {
        at: WORDS_AND_CAUSES,
        exchanges: ["patch of the kind", "patch of plain JSON", "unknown field in a strategic patch, Strict"],
      },
    ],
  },
  {
    what: "wrong JSON types",
    here: "the message names the field in full, and Go's types only approximately",
    where: [
      {
        at: WORDS,
        exchanges: [
          "a number for a text, built-in kind",
          "a text for a boolean, built-in kind",
          "an object for a list, built-in kind",
          "a number for the whole spec, built-in kind",
          "a text for labels",
          "a number for a label",
          "custom object refused: labels of a wrong type",
        ],
      },
      { at: WORDS_AND_CAUSES, exchanges: ["merge patch to a wrong type", "a status of a wrong type"] },
    ],
  },
  {
    what: "values in messages",
    here: "the value at fault, as it was given; Kubernetes prints Go's structures, and for `endPort` the port",
    where: [
      {
        at: WORDS_AND_CAUSES,
        exchanges: [
          "service refused: the same port twice",
          "node: the same taint twice",
          "policy refused: end before begin",
        ],
      },
    ],
  },
  {
    what: "schemas with `oneOf`",
    here: "the message names the field, and not what else the alternatives want",
    where: [
      {
        at: WORDS_AND_CAUSES,
        exchanges: ["custom object refused: neither of two", "custom object refused: both of two"],
      },
    ],
  },
  {
    what: "messages about CustomResourceDefinitions",
    here: "they name the version at fault (`spec.versions[0]…`), where Kubernetes names fields of its internal form",
    where: [
      {
        at: WORDS_AND_CAUSES,
        exchanges: [
          "definition refused: field without type",
          "definition refused: default outside of its bounds",
          "definition refused: no stored version",
          "definition refused: no schema",
          "definition refused: bad plural",
          "definition refused: pattern that is none",
          "definition refused: column without path",
          "definition refused: column of an unknown type",
          "definition refused: additional properties beside properties",
          "definition refused: no spec",
        ],
      },
    ],
  },
  {
    what: "rules for schemas of CustomResourceDefinitions",
    here: "`uniqueItems` and a map without keys are accepted and ignored",
    where: [
      { at: WHOLE_ANSWER, exchanges: ["definition refused: map without keys", "definition refused: uniqueItems"] },
    ],
  },
];

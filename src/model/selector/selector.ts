/**
 * Selector: a predicate over labels, as a tree. Calico's selector text and Kubernetes label selectors both become this;
 * `canonical` text is identity: equal trees share one IP set.
 */
export type Selector =
  | { readonly op: "all" }
  | { readonly op: "equal"; readonly label: string; readonly value: string }
  | { readonly op: "not-equal"; readonly label: string; readonly value: string }
  | { readonly op: "in"; readonly label: string; readonly values: readonly string[] }
  | { readonly op: "not-in"; readonly label: string; readonly values: readonly string[] }
  | { readonly op: "has"; readonly label: string }
  | { readonly op: "contains"; readonly label: string; readonly value: string }
  | { readonly op: "starts-with"; readonly label: string; readonly value: string }
  | { readonly op: "ends-with"; readonly label: string; readonly value: string }
  | { readonly op: "not"; readonly of: Selector }
  | { readonly op: "and"; readonly of: readonly Selector[] }
  | { readonly op: "or"; readonly of: readonly Selector[] };

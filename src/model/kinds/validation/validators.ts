/**
 * Validators: for each kind of the policy language everything that is wrong with an object, empty when it is valid. Pure functions of the
 * object alone: the embedded API's admission, the conversion and the command line use the same.
 */
import type { Kind } from "../../kind.ts";
import type { FieldError } from "../../schema/field-error.ts";
import { validateAdminNetworkPolicy, validateBaselineAdminNetworkPolicy } from "./admin-network-policy.ts";
import { validateClusterNetworkPolicy } from "./cluster-network-policy.ts";
import {
  validateGlobalNetworkPolicy,
  validateNetworkPolicy,
  validateProfile,
  validateStagedGlobalNetworkPolicy,
  validateStagedKubernetesNetworkPolicy,
  validateStagedNetworkPolicy,
} from "./policy.ts";
import {
  validateFelixConfiguration,
  validateGlobalNetworkSet,
  validateHostEndpoint,
  validateNetworkSet,
  validateTier,
  validateWorkloadEndpoint,
} from "./settings.ts";

export type Validator = (object: unknown) => readonly FieldError[];

export const VALIDATORS = {
  NetworkPolicy: validateNetworkPolicy,
  GlobalNetworkPolicy: validateGlobalNetworkPolicy,
  StagedNetworkPolicy: validateStagedNetworkPolicy,
  StagedGlobalNetworkPolicy: validateStagedGlobalNetworkPolicy,
  StagedKubernetesNetworkPolicy: validateStagedKubernetesNetworkPolicy,
  Tier: validateTier,
  NetworkSet: validateNetworkSet,
  GlobalNetworkSet: validateGlobalNetworkSet,
  HostEndpoint: validateHostEndpoint,
  WorkloadEndpoint: validateWorkloadEndpoint,
  Profile: validateProfile,
  FelixConfiguration: validateFelixConfiguration,
  ClusterNetworkPolicy: validateClusterNetworkPolicy,
  AdminNetworkPolicy: validateAdminNetworkPolicy,
  BaselineAdminNetworkPolicy: validateBaselineAdminNetworkPolicy,
} as const satisfies Partial<Record<Kind, Validator>>;

/** The kinds that have a validator here. */
export type PolicyKind = keyof typeof VALIDATORS;

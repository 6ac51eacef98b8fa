/**
 * Split: two datastores as one, for a cluster of Kubernetes that keeps Calico's objects in etcd: each kind is in one of them. Upstream's
 * controllers copy Kubernetes' policies and labels into etcd; they are read where they are made instead.
 */
import { KINDS, type Kind } from "../model/kind.ts";
import type { Store } from "./store.ts";

export function openSplitStore(kubernetes: Store, calico: Store): Store {
  const of = (kind: Kind): Store => (KINDS[kind].apiVersion.startsWith("projectcalico.org/") ? calico : kubernetes);
  return {
    isStandalone: false,
    get: (key, options) => of(key.kind).get(key, options),
    list: (kind, options) => of(kind).list(kind, options),
    pages: (kind, options) => of(kind).pages(kind, options),
    create: (kind, object, options) => of(kind).create(kind, object, options),
    update: (kind, object, options) => of(kind).update(kind, object, options),
    updateStatus: (key, status, revision, options) => of(key.kind).updateStatus(key, status, revision, options),
    annotate: (key, annotations, options) => of(key.kind).annotate(key, annotations, options),
    delete: (key, precondition, options) => of(key.kind).delete(key, precondition, options),
    watch: (kind, revision, options) => of(kind).watch(kind, revision, options),
    close: async () => {
      await Promise.all([kubernetes.close(), calico.close()]);
    },
  };
}

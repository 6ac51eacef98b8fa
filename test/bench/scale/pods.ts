/** pods: the Pods of the scale bench, lean or as heavy as real ones are. */
import {
  dotted,
  type Labelled,
  LOCAL_NODE,
  localPod,
  nodeName,
  nodeOfPod,
  type PodWeight,
  remotePod,
  type Size,
  uidOf,
} from "./scenario.ts";

interface Placement {
  readonly node: string;
  /** undefined: its kubelet has not started it. */
  readonly address: string | undefined;
  readonly uid: string;
}

export function remotePodObject(size: Size, weight: PodWeight, i: number, address: number): object {
  const placement = { node: nodeName(nodeOfPod(size, i)), address: dotted(address), uid: uidOf(7, i) };
  return podObject(remotePod(i), placement, weight);
}

export function localPodObject(weight: PodWeight, i: number): object {
  return podObject(localPod(i), { node: LOCAL_NODE, address: undefined, uid: uidOf(8, i) }, weight);
}

const CREATED = "2026-01-01T00:00:00Z";

export function podObject(pod: Labelled, { node, address, uid }: Placement, weight: PodWeight): object {
  const { namespace, name, labels } = pod;
  const fat = weight === "fat";
  const ip = address === undefined ? {} : { podIP: address, podIPs: [{ ip: address }] };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace,
      uid,
      creationTimestamp: CREATED,
      labels: { ...labels, "pod-template-hash": "5d4f8c7b9c" },
      ...(fat ? fatMetadata(name) : {}),
      ...(address === undefined ? {} : { annotations: { "cni.projectcalico.org/podIP": `${address}/32` } }),
    },
    spec: {
      nodeName: node,
      serviceAccountName: "default",
      containers: [fat ? fatContainer() : { name: "main", image: "registry.example/app:1", ports: PORTS }],
      restartPolicy: "Always",
      ...(fat ? FAT_SPEC : {}),
    },
    status: {
      phase: address === undefined ? "Pending" : "Running",
      hostIP: node === LOCAL_NODE ? "172.30.0.2" : "172.30.1.1",
      ...ip,
      startTime: CREATED,
      conditions: address === undefined ? [] : fat ? FAT_CONDITIONS : LEAN_CONDITIONS,
      ...(fat ? fatStatus(uid) : {}),
    },
  };
}

const PORTS = [8080, 9090].map((containerPort) => ({ containerPort, protocol: "TCP" }));
const LEAN_CONDITIONS = [{ type: "Ready", status: "True", lastTransitionTime: CREATED }];
const FAT_CONDITIONS = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"].map(
  (type) => ({ type, status: "True", lastProbeTime: null, lastTransitionTime: CREATED, observedGeneration: 1 }),
);

/** What each writer of the API is recorded to own. */
function fatMetadata(name: string): object {
  const owned = (paths: readonly string[]): object =>
    Object.fromEntries(paths.map((path) => [`f:${path}`, { ".": {}, "f:name": {} }]));
  const fields = (manager: string, subresource: string | undefined, parts: object): object => ({
    manager,
    operation: "Update",
    apiVersion: "v1",
    time: CREATED,
    fieldsType: "FieldsV1",
    fieldsV1: parts,
    ...(subresource === undefined ? {} : { subresource }),
  });
  const container = [
    "image",
    "imagePullPolicy",
    "name",
    "resources",
    "env",
    "ports",
    "livenessProbe",
    "readinessProbe",
  ];
  const status = ["conditions", "containerStatuses", "hostIP", "hostIPs", "phase", "podIP", "podIPs", "startTime"];
  return {
    generateName: `${name.replace(/-\d+$/, "")}-`,
    ownerReferences: [
      {
        apiVersion: "apps/v1",
        kind: "ReplicaSet",
        name: "app-5d4f8c7b9c",
        uid: uidOf(9, 1),
        controller: true,
        blockOwnerDeletion: true,
      },
    ],
    managedFields: [
      fields("kube-controller-manager", undefined, {
        "f:metadata": owned(["generateName", "labels", "ownerReferences", "annotations"]),
        "f:spec": {
          "f:containers": { 'k:{"name":"main"}': owned(container) },
          ...owned(["restartPolicy", "dnsPolicy"]),
        },
      }),
      fields("kubelet", "status", { "f:status": owned(status) }),
    ],
  };
}

function fatContainer(): object {
  const probe = (path: string): object => ({
    httpGet: { path, port: 8080, scheme: "HTTP" },
    initialDelaySeconds: 5,
    timeoutSeconds: 1,
    periodSeconds: 10,
    successThreshold: 1,
    failureThreshold: 3,
  });
  return {
    name: "main",
    image: "registry.example/team/application/service:v1.24.3-20260101",
    imagePullPolicy: "IfNotPresent",
    ports: PORTS,
    env: ["POD_NAME", "POD_NAMESPACE", "POD_IP", "NODE_NAME"].map((name) => ({
      name,
      valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: `metadata.${name.toLowerCase()}` } },
    })),
    resources: { limits: { cpu: "500m", memory: "512Mi" }, requests: { cpu: "100m", memory: "128Mi" } },
    livenessProbe: probe("/healthz"),
    readinessProbe: probe("/readyz"),
    volumeMounts: [
      { name: "config", mountPath: "/etc/app", readOnly: true },
      { name: "kube-api-access", mountPath: "/var/run/secrets/kubernetes.io/serviceaccount", readOnly: true },
    ],
    terminationMessagePath: "/dev/termination-log",
    terminationMessagePolicy: "File",
    securityContext: { allowPrivilegeEscalation: false, runAsNonRoot: true, capabilities: { drop: ["ALL"] } },
  };
}

const FAT_SPEC = {
  dnsPolicy: "ClusterFirst",
  enableServiceLinks: true,
  preemptionPolicy: "PreemptLowerPriority",
  priority: 0,
  schedulerName: "default-scheduler",
  securityContext: { fsGroup: 1000 },
  terminationGracePeriodSeconds: 30,
  tolerations: ["not-ready", "unreachable"].map((key) => ({
    key: `node.kubernetes.io/${key}`,
    operator: "Exists",
    effect: "NoExecute",
    tolerationSeconds: 300,
  })),
  volumes: [
    { name: "config", configMap: { name: "app", defaultMode: 420 } },
    {
      name: "kube-api-access",
      projected: {
        defaultMode: 420,
        sources: [
          { serviceAccountToken: { expirationSeconds: 3607, path: "token" } },
          { configMap: { name: "kube-root-ca.crt", items: [{ key: "ca.crt", path: "ca.crt" }] } },
          {
            downwardAPI: {
              items: [{ path: "namespace", fieldRef: { apiVersion: "v1", fieldPath: "metadata.namespace" } }],
            },
          },
        ],
      },
    },
  ],
} as const;

function fatStatus(uid: string): object {
  return {
    qosClass: "Burstable",
    containerStatuses: [
      {
        name: "main",
        image: "registry.example/team/application/service:v1.24.3-20260101",
        imageID:
          "registry.example/team/application/service@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        containerID: `containerd://${uid.replaceAll("-", "").repeat(2)}`,
        ready: true,
        started: true,
        restartCount: 0,
        lastState: {},
        state: { running: { startedAt: CREATED } },
      },
    ],
  };
}

/** paths: every file and socket of the node daemon, derived from one root, so that many nodes run on one machine. */
export interface NodePaths {
  /** Unix socket of the CNI server, mode 0600. */
  readonly cniSocket: string;
  /** One file for each CNI attachment. In /var/run, because the records live exactly as long as the kernel's state. */
  readonly journal: string;
  /** Name of this node, for the CNI plugin and upstream's tools. */
  readonly nodename: string;
  readonly birdConfiguration: string;
  /** Control socket of BIRD itself. */
  readonly birdSocket: string;
  /** Where upstream's tools look for it. */
  readonly birdFront: string;
  /** Directory of a bpffs in which eBPF's maps and programs are pinned. */
  readonly pins: string;
}

/** `root` is an absolute directory, `/` on a host of its own. */
export function nodePaths(root: string): NodePaths {
  const base = root.replace(/\/+$/, "");
  return {
    cniSocket: `${base}/var/run/calico/cni.sock`,
    journal: `${base}/var/run/calico/cni`,
    nodename: `${base}/var/lib/calico/nodename`,
    birdConfiguration: `${base}/etc/calico/bird.conf`,
    birdSocket: `${base}/var/run/calico/bird2.ctl`,
    birdFront: `${base}/var/run/calico/bird.ctl`,
    pins: `${base}/sys/fs/bpf/calico`,
  };
}

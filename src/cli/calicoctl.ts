/** calicoctl: placeholder to be replaced. */
export async function runCalicoctl(args: readonly string[]): Promise<number> { console.error("calicoctl", args); return 2; }

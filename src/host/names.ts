/** Names: who offers a service of a domain, by DNS (RFC 2782). */
export interface ServiceHost {
  readonly host: string;
  readonly port: number;
}

/** The hosts of a name as `_etcd-client._tcp.example.org`, in the order in which they are to be tried; none: there is no such name. Rejects with NameError. */
export type ServiceHosts = (name: string) => Promise<readonly ServiceHost[]>;

/** No name server answers as it should. */
export class NameError extends Error {
  override readonly name = "NameError";

  constructor(name: string, cause: string) {
    super(`Cannot look up ${name}: ${cause}`);
  }
}

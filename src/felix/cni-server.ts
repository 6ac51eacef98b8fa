/**
 * cni-server: answers the CNI plugin over the node's unix socket: ADD, DEL, CHECK, STATUS, GC.
 *
 * Requests for one container run one after another. What they do to it is `pod-attachments`.
 */
import type { Sockets, Connection, Listener } from "../host/sockets.ts";
import {
  CNI_CHECK_FAILED,
  CNI_DECODE_FAILURE,
  CNI_FAILED,
  CNI_INVALID_ENVIRONMENT,
  CNI_NOT_AVAILABLE,
  CNI_UNKNOWN_CONTAINER,
  MAX_REQUEST_BYTES,
  parseRequest,
  type CniAnswer,
  type CniRequest,
  type CniResult,
  whyNotIdentifier,
  whyNotInterfaceName,
} from "../podnet/protocol.ts";
import { assertNever } from "../lib/bug.ts";
import { Turns } from "../lib/turns.ts";
import { CniRefusal } from "./cni-refusal.ts";
import { isFailure } from "./failures.ts";
import { networkOf, readValidAttachments } from "./network-config.ts";
import { type AttachmentOptions, datastoreErrorsOf, PodAttachments } from "./pod-attachments.ts";

export class CniServer {
  readonly #options: AttachmentOptions;
  readonly #attachments: PodAttachments;
  /** Requests for one container, in order of arrival. */
  readonly #turns = new Turns();
  /** Connections whose request is not answered yet. */
  #open = 0;

  constructor(options: AttachmentOptions) {
    this.#options = options;
    this.#attachments = new PodAttachments(options);
  }

  listen(sockets: Sockets, path: string): Promise<Listener> {
    return sockets.listen(path, 0o600, (connection) => this.#serve(connection));
  }

  async #serve(connection: Connection): Promise<void> {
    this.#open++;
    try {
      await this.#converse(connection);
    } finally {
      this.#open--;
    }
  }

  async #converse(connection: Connection): Promise<void> {
    const decoder = new TextDecoder();
    let text = "";
    for await (const chunk of connection.input) {
      text += decoder.decode(chunk, { stream: true });
      if (text.includes("\n") || text.length > MAX_REQUEST_BYTES) break;
    }
    const answer = await this.#answer(text);
    await connection.write(new TextEncoder().encode(`${JSON.stringify(answer)}\n`));
    connection.end();
  }

  async #answer(text: string): Promise<CniAnswer> {
    const refuse = (msg: string): CniAnswer => ({ ok: false, error: { code: CNI_DECODE_FAILURE, msg } });
    if (text.length > MAX_REQUEST_BYTES) return refuse(`request is longer than ${MAX_REQUEST_BYTES} bytes`);
    const parsed = parseRequest(text);
    if ("error" in parsed) return refuse(parsed.error);
    const { request } = parsed;
    try {
      return { ok: true, result: await this.#run(request) };
    } catch (error) {
      if (error instanceof CniRefusal) return { ok: false, error: error.answer };
      if (!isFailure(error)) throw error;
      return {
        ok: false,
        error: {
          code: CNI_FAILED,
          msg: `${request.command} of container ${request.containerId} failed`,
          details: error.message,
        },
      };
    }
  }

  async #run(request: CniRequest): Promise<CniResult | undefined> {
    switch (request.command) {
      case "ADD":
        return this.#inTurn(request, () => this.#attachments.add(request, () => this.#open === 1));
      case "DEL":
        return this.#inTurn(request, () => this.#del(request));
      case "CHECK":
        return this.#inTurn(request, () => this.#check(request));
      case "STATUS":
        return this.#status();
      case "GC":
        return this.#gc(request);
      default:
        return assertNever(request.command);
    }
  }

  #inTurn<T>({ containerId, interface: podInterface }: CniRequest, work: () => Promise<T>): Promise<T> {
    const refuse = (field: string, value: string, wanted: string | undefined): void => {
      if (wanted !== undefined)
        throw new CniRefusal(CNI_INVALID_ENVIRONMENT, `${field} is ${JSON.stringify(value)}, must be ${wanted}`);
    };
    refuse("container id", containerId, whyNotIdentifier(containerId));
    refuse("interface name", podInterface, whyNotInterfaceName(podInterface));
    return this.#turns.run(containerId, work);
  }

  async #status(): Promise<undefined> {
    if (!this.#options.pipeline.inSync) {
      throw new CniRefusal(
        CNI_NOT_AVAILABLE,
        `calico node is not ready: the datastore is ${this.#options.pipeline.status}, rules are not programmed yet`,
        datastoreErrorsOf(this.#options.pipeline),
      );
    }
    const refused = this.#options.pipeline.refused;
    if (refused !== undefined)
      throw new CniRefusal(
        CNI_NOT_AVAILABLE,
        "calico node cannot program the kernel: new pods would stay closed",
        refused,
      );
    try {
      await this.#options.journal.probe();
    } catch (error) {
      if (!isFailure(error)) throw error;
      throw new CniRefusal(
        CNI_NOT_AVAILABLE,
        "calico node cannot record pods: new pods would be refused",
        error.message,
      );
    }
    return undefined;
  }

  /** An address of the pod is recorded for somebody else: the datastore's word counts, so the pod stays closed, and is told. */
  closeLoser(...loser: Parameters<PodAttachments["closeLoser"]>): Promise<void> {
    return this.#attachments.closeLoser(...loser);
  }

  async #del(request: CniRequest): Promise<undefined> {
    const { journal, addresses } = this.#options;
    const network = networkOf(request.config);
    const attachment = journal.get(request.containerId, request.interface);
    if (attachment === undefined) addresses.releaseHandle(request.containerId, `${network}.${request.containerId}`);
    else await this.#attachments.takeDown(attachment);
    return undefined;
  }

  /** Takes down what the runtime does not know of the network: it goes on over failures, and answers them at the end. */
  async #gc(request: CniRequest): Promise<undefined> {
    const { journal } = this.#options;
    const network = networkOf(request.config);
    const valid = readValidAttachments(request.config);
    const failures: string[] = [];
    for (const { record, handle } of journal.all()) {
      const { containerId, podInterface } = record;
      const isValid = valid.some((kept) => kept.containerId === containerId && kept.interface === podInterface);
      if (isValid || handle !== `${network}.${containerId}`) continue;
      try {
        await this.#turns.run(containerId, async () => {
          const attachment = journal.get(containerId, podInterface);
          if (attachment?.state === "attached") await this.#attachments.takeDown(attachment);
        });
      } catch (error) {
        if (!isFailure(error)) throw error;
        failures.push(`container ${containerId}: ${error.message}`);
      }
    }
    if (failures.length > 0)
      throw new CniRefusal(
        CNI_FAILED,
        `GC of network ${network} could not take down ${failures.length} attachments`,
        failures.join("; "),
      );
    return undefined;
  }

  async #check(request: CniRequest): Promise<undefined> {
    const { pipeline, journal, wiring } = this.#options;
    const attachment = journal.get(request.containerId, request.interface);
    if (attachment === undefined || attachment.state !== "attached") {
      throw new CniRefusal(
        CNI_UNKNOWN_CONTAINER,
        `container ${request.containerId} has no interface ${request.interface} of this plugin on this node`,
      );
    }
    if (attachment.closed !== undefined)
      throw new CniRefusal(
        CNI_CHECK_FAILED,
        `container ${request.containerId} has lost its interface`,
        attachment.closed,
      );
    if (!attachment.wired) return undefined;
    const differences = wiring.check(attachment);
    if (!pipeline.isProgrammed(attachment.record.interface))
      differences.push(pipeline.explain(attachment.record.interface));
    if (differences.length > 0)
      throw new CniRefusal(
        CNI_CHECK_FAILED,
        `container ${request.containerId} is not as ADD left it`,
        differences.join("; "),
      );
    return undefined;
  }
}

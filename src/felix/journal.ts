/**
 * Journal: the CNI attachments of this node on disk, so that a daemon without memory knows its pods again.
 *
 * A record is written before the kernel is touched and removed after its addresses are released, so that whatever a crash
 * leaves is found: an attachment in `releasing` is finished by the next process. The records die with the machine, as the kernel's
 * state of which they speak does: they are not synchronised to a disk.
 */
import type { Files } from "../host/files.ts";
import type { CniRecord } from "../model/endpoint.ts";
import type { Addr } from "../net/addr.ts";

export interface Attachment {
  readonly record: CniRecord;
  /** IPAM handle of the addresses, `NETWORK.CONTAINERID`. */
  readonly handle: string;
  /** When ADD took the addresses, RFC 3339: part of what the datastore records, and the same after every start. */
  readonly assignedAt: string;
  /** MTU of the pod's link in bytes. */
  readonly mtuBytes: number;
  readonly state: "attached" | "releasing";
  /** False for `calico-ipam` alone: addresses without an interface of ours. */
  readonly wired: boolean;
}

export class Journal {
  readonly #files: Files;
  readonly #directory: string;
  readonly #attachments = new Map<string, Attachment>();

  private constructor(files: Files, directory: string) {
    this.#files = files;
    this.#directory = directory;
  }

  /** Reads what an earlier process left. A file that is not one of ours is reported and kept. */
  static async open(files: Files, directory: string, report: (message: string, fields: Readonly<Record<string, unknown>>) => void): Promise<Journal> {
    await files.makeDirectory(directory);
    const journal = new Journal(files, directory);
    for (const name of await files.list(directory)) {
      if (!name.endsWith(".json")) {
        // A write that a crash interrupted: the whole file beside it is the truth.
        if (name.endsWith(".tmp")) await files.remove(`${directory}/${name}`);
        continue;
      }
      const text = await files.readText(`${directory}/${name}`);
      const attachment = text === undefined ? undefined : parseAttachment(text);
      if (attachment === undefined) report("journal file is not a CNI attachment: ignored", { path: `${directory}/${name}` });
      else journal.#attachments.set(attachmentId(attachment.record.containerId, attachment.record.podInterface), attachment);
    }
    return journal;
  }

  get(containerId: string, podInterface: string): Attachment | undefined {
    return this.#attachments.get(attachmentId(containerId, podInterface));
  }

  all(): readonly Attachment[] {
    return [...this.#attachments.values()];
  }

  /** Every address that an attachment holds. */
  addresses(): ReadonlySet<Addr> {
    return new Set(this.all().flatMap((attachment) => attachment.record.addresses));
  }

  async put(attachment: Attachment): Promise<void> {
    const id = attachmentId(attachment.record.containerId, attachment.record.podInterface);
    this.#attachments.set(id, attachment);
    await this.#files.writeVolatile(`${this.#directory}/${id}.json`, JSON.stringify(attachment), 0o600);
  }

  async remove(attachment: Attachment): Promise<void> {
    const id = attachmentId(attachment.record.containerId, attachment.record.podInterface);
    await this.#files.remove(`${this.#directory}/${id}.json`);
    this.#attachments.delete(id);
  }
}

/** Container ids and interface names are letters, digits and `-_.`; anything else is escaped, so that no path leaves the directory. */
function attachmentId(containerId: string, podInterface: string): string {
  return `${encodeURIComponent(containerId)}@${encodeURIComponent(podInterface)}`;
}

function parseAttachment(text: string): Attachment | undefined {
  try {
    const value = JSON.parse(text) as Attachment;
    const record = value.record;
    const complete = typeof record.containerId === "string" && typeof record.interface === "string" && Array.isArray(record.addresses) && typeof value.handle === "string";
    return complete ? value : undefined;
  } catch {
    return undefined;
  }
}

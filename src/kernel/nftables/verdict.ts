/** Verdicts as nf_tables data (NFTA_DATA_VERDICT), in rules and in verdict maps. */
import type { Span } from "../netlink/reader.ts";
import type { Writer } from "../netlink/writer.ts";
import type { NftVerdict } from "./objects.ts";
import { NF_ACCEPT, NF_DROP, NFTA_DATA_VERDICT, NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE } from "./wire.ts";

/** enum nft_verdicts. */
const CODES: { readonly [T in NftVerdict["type"]]: number } = {
  drop: NF_DROP,
  accept: NF_ACCEPT,
  continue: -1,
  jump: -3,
  goto: -4,
  return: -5,
};

export function encodeVerdict(w: Writer, verdict: NftVerdict): void {
  const nested = w.open(NFTA_DATA_VERDICT);
  w.i32Be(NFTA_VERDICT_CODE, CODES[verdict.type]);
  if (verdict.type === "jump" || verdict.type === "goto") w.text(NFTA_VERDICT_CHAIN, verdict.chain);
  w.close(nested);
}

/** `data` holds the NFTA_DATA_VERDICT. */
export function decodeVerdict(data: Span | undefined): NftVerdict | undefined {
  const parts = data?.attributes()?.get(NFTA_DATA_VERDICT)?.attributes();
  const code = parts?.get(NFTA_VERDICT_CODE)?.i32Be();
  const chain = parts?.get(NFTA_VERDICT_CHAIN)?.text();
  switch (code) {
    case CODES.jump:
      return chain === undefined ? undefined : { type: "jump", chain };
    case CODES.goto:
      return chain === undefined ? undefined : { type: "goto", chain };
    case CODES.drop:
      return { type: "drop" };
    case CODES.accept:
      return { type: "accept" };
    case CODES.continue:
      return { type: "continue" };
    case CODES.return:
      return { type: "return" };
    default:
      return undefined;
  }
}

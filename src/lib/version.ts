/** Version: of this product, which package.json alone states, and the commit that the executable was built from. */
import manifest from "../../package.json" with { type: "json" };

/** Defined by tools/build; absent when the sources are run directly. */
declare const BUILD_COMMIT: string | undefined;

export const VERSION: string = manifest.version;
/** `9f2c01ab34de`, with `+changes` behind it when the sources were not those of the commit; `unknown` without git. */
const COMMIT: string = typeof BUILD_COMMIT === "string" ? BUILD_COMMIT : "unknown";

/** For people: one fact a line. */
export function versionText(): string {
  return `Version: ${VERSION}\nCommit:  ${COMMIT}\n`;
}

/** network-words: why a request had no answer, worded for an operator: the runtime's own advice is about its API, not about the network. */

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "the connection was closed before the answer was complete",
  ENOTFOUND: "no such host name",
  EAI_AGAIN: "the name server does not answer",
  EHOSTUNREACH: "no route to the host",
  ENETUNREACH: "no route to the network",
  ETIMEDOUT: "the connection timed out",
  EPROTO: "the TLS handshake failed: the server may not speak TLS on this port",
  FailedToOpenSocket:
    "the connection could not be opened: the address, or the authority's certificate in the credentials, is malformed",
  DEPTH_ZERO_SELF_SIGNED_CERT: "the server's certificate is self-signed and not the trusted authority's",
  SELF_SIGNED_CERT_IN_CHAIN: "the server's certificate is not signed by the trusted authority",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "the server's certificate is not signed by the trusted authority",
  UNABLE_TO_GET_ISSUER_CERT: "the server's certificate is not signed by the trusted authority",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "the server's certificate is not signed by the trusted authority",
  CERT_SIGNATURE_FAILURE: "the server's certificate is not signed by the trusted authority",
  ERR_TLS_CERT_ALTNAME_INVALID: "the server's certificate is not for this address",
  CERT_HAS_EXPIRED: "the server's certificate has expired",
  CERT_NOT_YET_VALID: "the server's certificate is not valid yet: is the clock right?",
};

/** `connection refused (ECONNREFUSED)`. */
export function networkWords(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  const words = code === undefined ? undefined : WORDS[code];
  if (words !== undefined) return `${words} (${code})`;
  const own = error.message.replace(/ ?For more information, pass `verbose: true`.*$/s, "");
  return code === undefined || own.startsWith(code) ? own : `${own} (${code})`;
}

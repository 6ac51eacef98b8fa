/** sha3: SHA3-256 (FIPS 202) of a byte string, synchronously; for short identifiers, not for bulk data. */
const RATE = 136;
const MASK = (1n << 64n) - 1n;

/** Rotation of lane `x + 5y`, FIPS 202 table 2. */
const ROTATIONS = [0, 1, 62, 28, 27, 36, 44, 6, 55, 20, 3, 10, 43, 25, 39, 41, 45, 15, 21, 8, 18, 2, 61, 56, 14];

/** Round constants, from the linear feedback shift register of FIPS 202 §3.2.5. */
const ROUND_CONSTANTS = roundConstants();

function roundConstants(): bigint[] {
  const constants: bigint[] = [];
  let register = 1;
  for (let round = 0; round < 24; round++) {
    let constant = 0n;
    for (let j = 0; j <= 6; j++) {
      if ((register & 1) === 1) constant |= 1n << BigInt(2 ** j - 1);
      register = (register << 1) ^ ((register >> 7) * 0x171);
    }
    constants.push(constant);
  }
  return constants;
}

/** 32 bytes. */
export function sha3(bytes: Uint8Array): Uint8Array {
  const padded = new Uint8Array((Math.floor(bytes.length / RATE) + 1) * RATE);
  padded.set(bytes);
  padded[bytes.length] = 0x06;
  padded[padded.length - 1] = (padded[padded.length - 1] ?? 0) | 0x80;
  const view = new DataView(padded.buffer);
  let lanes = Array<bigint>(25).fill(0n);
  for (let at = 0; at < padded.length; at += RATE) {
    lanes = lanes.map((lane, i) => (i < RATE / 8 ? lane ^ view.getBigUint64(at + 8 * i, true) : lane));
    lanes = permute(lanes);
  }
  const digest = new DataView(new ArrayBuffer(32));
  for (let i = 0; i < 4; i++) digest.setBigUint64(8 * i, lanes[i] ?? 0n, true);
  return new Uint8Array(digest.buffer);
}

function permute(input: readonly bigint[]): bigint[] {
  let a = [...input];
  const lane = (i: number): bigint => a[i] ?? 0n;
  for (const constant of ROUND_CONSTANTS) {
    const parity = [0, 1, 2, 3, 4].map((x) => lane(x) ^ lane(x + 5) ^ lane(x + 10) ^ lane(x + 15) ^ lane(x + 20));
    const theta = a.map((value, i) => value ^ (parity[(i + 4) % 5] ?? 0n) ^ rotate(parity[(i + 1) % 5] ?? 0n, 1));
    const moved = Array<bigint>(25).fill(0n);
    theta.forEach((value, i) => {
      const [x, y] = [i % 5, Math.floor(i / 5)];
      moved[y + 5 * ((2 * x + 3 * y) % 5)] = rotate(value, ROTATIONS[i] ?? 0);
    });
    a = moved.map((value, i) => {
      const row = i - (i % 5);
      return value ^ (~(moved[row + ((i + 1) % 5)] ?? 0n) & MASK & (moved[row + ((i + 2) % 5)] ?? 0n));
    });
    a[0] = lane(0) ^ constant;
  }
  return a;
}

function rotate(value: bigint, by: number): bigint {
  return ((value << BigInt(by)) | (value >> BigInt(64 - by))) & MASK;
}

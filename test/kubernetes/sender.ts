/** sender: one UDP datagram per millisecond to each address given, until it is ended; prints "sending" once it does. */
export {};

const addresses = process.argv.slice(2);
const sockets = await Promise.all(
  addresses.map(async (address) => {
    // While nobody has the address, routers say so: that is expected.
    const socket = await Bun.udpSocket({
      hostname: address.includes(":") ? "::" : "0.0.0.0",
      socket: { error: () => undefined },
    });
    return { address, socket };
  }),
);
setInterval(() => {
  for (const { address, socket } of sockets) {
    try {
      socket.send("x", 9, address);
    } catch {
      // The word of an earlier datagram's router, told by this call.
    }
  }
}, 1);
console.log("sending");

/** sender: one UDP datagram per millisecond to each address given, until it is ended; prints "sending" once it does. */
export {};

const addresses = process.argv.slice(2);
const sockets = await Promise.all(addresses.map(async (address) => ({ address, socket: await Bun.udpSocket({ hostname: address.includes(":") ? "::" : "0.0.0.0" }) })));
setInterval(() => {
  for (const { address, socket } of sockets) socket.send("x", 9, address);
}, 1);
console.log("sending");

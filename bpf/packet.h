/*
 * packet: what the path reads of a packet: addresses, ports, what kind it is, and the key of its flow.
 */
#pragma once
#include "kernel.h"
#include "layout.h"

enum { ETHERNET_HEADER = 14, IPV6_HEADER = 40 };
enum { ETH_IPV4 = 0x0800, ETH_IPV6 = 0x86dd };
enum { AF_INET = 2, AF_INET6 = 10 };
enum {
	HOP_BY_HOP = 0,
	ICMP = 1,
	TCP = 6,
	UDP = 17,
	ROUTING = 43,
	FRAGMENT = 44,
	AUTHENTICATION = 51,
	ICMP6 = 58,
	DESTINATION_OPTIONS = 60,
	SCTP = 132,
	UDPLITE = 136,
};
/* Of IPv6 extension headers; a packet with more is dropped. */
enum { MOST_HEADERS = 8 };

struct address {
	__u32 words[4];
};

struct packet {
	union features features;
	__u16 ports[2]; /* source, destination */
	__u8 tcp_flags;
	bool is_first_fragment;
	bool is_later_fragment;
	bool is_bare; /* whole, and the IP header is alone and without options */
	struct address addresses[2];
	__u32 identification; /* of a fragment */
	__u32 payload; /* offset of what follows the IP header */
	/* What no translation changes: identification of IPv4, flow label of IPv6; sequence number of TCP. */
	__u32 name;
	__u32 sequence;
	__u32 length; /* of the packet, as its IP header says */
	__u32 headers; /* bytes of IP and TCP headers */
	__u32 class; /* what a route may depend on besides: type of service of IPv4, the first word of IPv6 without the version */
};
enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };

enum { SOURCE, DESTINATION };
/* The ends of a flow: who began it, and the other. */
enum { CALLER, ANSWERER };

/* Room for what is before the network header. */
enum { BEFORE_NETWORK_HEADER = 32 };

/*
 * Reads what follows the network header. Headers that are not in the packet's first piece of memory are brought there (`pulls`): the kernel lets classifiers
 * do so. False: the packet is shorter.
 */
INLINE bool load(struct __sk_buff *skb, __u32 offset, void *to, __u32 length, bool pulls)
{
	__u32 needed = BEFORE_NETWORK_HEADER + offset + length;

	if (load_relative(skb, offset, to, length, FROM_NETWORK_HEADER) == 0)
		return true;
	if (!pulls || pull(skb, needed < skb->len ? needed : skb->len))
		return false;
	return load_relative(skb, offset, to, length, FROM_NETWORK_HEADER) == 0;
}

/* False: it has no complete transport header. */
INLINE bool parse_transport(struct __sk_buff *skb, __u32 offset, struct packet *packet, bool pulls)
{
	__u16 ports[2];
	__u8 icmp[2];
	__u8 tcp[2];

	switch (packet->features.protocol) {
	case TCP:
		if (!load(skb, offset + 4, &packet->sequence, 4, pulls) || !load(skb, offset + 12, tcp, sizeof(tcp), pulls))
			return false;
		packet->headers = offset + (tcp[0] >> 4) * 4;
		packet->tcp_flags = tcp[1];
		/* fallthrough */
	case UDP:
	case SCTP:
	case UDPLITE:
		if (!load(skb, offset, ports, sizeof(ports), pulls))
			return false;
		packet->features.shape = HAS_PORTS;
		packet->ports[SOURCE] = network16(ports[0]);
		packet->ports[DESTINATION] = network16(ports[1]);
		return true;
	case ICMP:
	case ICMP6:
		if (!load(skb, offset, icmp, sizeof(icmp), pulls))
			return false;
		packet->features.shape = HAS_ICMP;
		packet->features.icmp_type = icmp[0];
		packet->features.icmp_code = icmp[1];
		return true;
	default:
		return true;
	}
}

INLINE bool parse4(struct __sk_buff *skb, struct packet *packet, bool pulls)
{
	__u8 header[20];

	if (!load(skb, 0, header, sizeof(header), pulls))
		return false;
	packet->features.family = 4;
	packet->features.protocol = header[9];
	__builtin_memcpy(&packet->addresses[SOURCE], header + 12, 4);
	__builtin_memcpy(&packet->addresses[DESTINATION], header + 16, 4);
	packet->payload = (header[0] & 15) * 4;
	packet->identification = header[4] << 8 | header[5];
	packet->name = packet->identification;
	packet->is_later_fragment = (header[6] & 0x1f) || header[7];
	packet->is_first_fragment = !packet->is_later_fragment && (header[6] & 0x20);
	packet->is_bare = header[0] == 0x45 && !packet->is_later_fragment && !packet->is_first_fragment;
	packet->length = header[2] << 8 | header[3];
	packet->class = header[1] & 0x1c;
	return true;
}

/* Up to its transport header. */
INLINE bool parse6(struct __sk_buff *skb, struct packet *packet, bool pulls)
{
	__u8 header[40];
	__u8 extension[8];
	__u32 offset = sizeof(header);
	__u8 next;

	if (!load(skb, 0, header, sizeof(header), pulls))
		return false;
	packet->features.family = 6;
	packet->name = (header[1] & 15) << 16 | header[2] << 8 | header[3];
	__builtin_memcpy(&packet->addresses[SOURCE], header + 8, 16);
	__builtin_memcpy(&packet->addresses[DESTINATION], header + 24, 16);
	packet->length = (header[4] << 8 | header[5]) + sizeof(header);
	__builtin_memcpy(&packet->class, header, 4);
	packet->class &= __builtin_bswap32(0x0fffffff);
	next = header[6];
#pragma clang loop unroll(full)
	for (int i = 0; i < MOST_HEADERS; i++) {
		if (next != HOP_BY_HOP && next != ROUTING && next != FRAGMENT && next != AUTHENTICATION &&
		    next != DESTINATION_OPTIONS) {
			packet->features.protocol = next;
			packet->payload = offset;
			packet->is_bare = offset == sizeof(header);
			return true;
		}
		if (!load(skb, offset, extension, sizeof(extension), pulls))
			return false;
		if (next == FRAGMENT) {
			__builtin_memcpy(&packet->identification, extension + 4, 4);
			packet->is_first_fragment = extension[3] & 1;
			if (extension[2] || (extension[3] & 0xf8)) {
				packet->features.protocol = extension[0];
				packet->is_first_fragment = false;
				packet->is_later_fragment = true;
				return true;
			}
		}
		offset += next == FRAGMENT ? 8 :
			  next == AUTHENTICATION ? (extension[1] + 2) * 4 :
						   (extension[1] + 1) * 8;
		next = extension[0];
	}
	return false;
}

INLINE bool is_ip(const struct __sk_buff *skb)
{
	return skb->protocol == network16(ETH_IPV4) || skb->protocol == network16(ETH_IPV6);
}

INLINE bool parse(struct __sk_buff *skb, struct packet *packet, bool pulls)
{
	__builtin_memset(packet, 0, sizeof(*packet));
	if (!(skb->protocol == network16(ETH_IPV4) ? parse4(skb, packet, pulls) : parse6(skb, packet, pulls)))
		return false;
	/* Only the first piece has a transport header. */
	return packet->is_later_fragment || parse_transport(skb, packet->payload, packet, pulls);
}

INLINE bool is_echo(__u8 type)
{
	return type == 0 || type == 8 || type == 128 || type == 129;
}

/* False: such packets belong to no flow. */
INLINE bool key_of(struct __sk_buff *skb, const struct packet *packet, struct connection_key *key, bool pulls)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->family = packet->features.family;
	key->protocol = packet->features.protocol;
	key->ports[SOURCE] = packet->ports[SOURCE];
	key->ports[DESTINATION] = packet->ports[DESTINATION];
	__builtin_memcpy(key->addresses, packet->addresses, sizeof(key->addresses));
	if (packet->is_later_fragment)
		return false;
	if (key->protocol != ICMP && key->protocol != ICMP6)
		return true;
	if (!is_echo(packet->features.icmp_type) || !load(skb, packet->payload + 4, &key->ports[SOURCE], 2, pulls))
		return false;
	key->ports[DESTINATION] = key->ports[SOURCE];
	return true;
}

INLINE void turn(struct connection_key *key)
{
	struct connection_key given = *key;

	key->ports[SOURCE] = given.ports[DESTINATION];
	key->ports[DESTINATION] = given.ports[SOURCE];
	__builtin_memcpy(key->addresses[SOURCE], given.addresses[DESTINATION], 16);
	__builtin_memcpy(key->addresses[DESTINATION], given.addresses[SOURCE], 16);
}

/* It opens a connection of TCP: for policy to judge, even where a flow is known. */
INLINE bool opens(const struct packet *packet)
{
	return (packet->tcp_flags & (SYN | ACK | RST | FIN)) == SYN;
}

/* A segment of TCP that begins nothing. */
INLINE bool is_middle(const struct packet *packet)
{
	return packet->features.protocol == TCP && !packet->is_later_fragment && !opens(packet);
}

INLINE bool is_error(const struct packet *packet)
{
	__u8 type = packet->features.icmp_type;

	if (!(packet->features.shape & HAS_ICMP))
		return false;
	if (packet->features.protocol == ICMP)
		return type == 3 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

INLINE bool is_same_address(const __u8 *a, const struct address *b)
{
	struct address copy;

	__builtin_memcpy(&copy, a, 16);
	return !((copy.words[0] ^ b->words[0]) | (copy.words[1] ^ b->words[1]) | (copy.words[2] ^ b->words[2]) |
		 (copy.words[3] ^ b->words[3]));
}

/* The flow of the packet that an error quotes; false: none that can be read. */
INLINE bool key_of_quoted(struct __sk_buff *skb, const struct packet *packet, struct connection_key *key)
{
	__u32 offset = packet->payload + 8;
	__u8 header[40];
	__u16 ports[2];

	__builtin_memset(key, 0, sizeof(*key));
	key->family = packet->features.family;
	if (key->family == 4) {
		if (!load(skb, offset, header, 20, true))
			return false;
		key->protocol = header[9];
		__builtin_memcpy(key->addresses[SOURCE], header + 12, 4);
		__builtin_memcpy(key->addresses[DESTINATION], header + 16, 4);
		offset += (header[0] & 15) * 4;
	} else {
		if (!load(skb, offset, header, 40, true))
			return false;
		key->protocol = header[6];
		__builtin_memcpy(key->addresses[SOURCE], header + 8, 16);
		__builtin_memcpy(key->addresses[DESTINATION], header + 24, 16);
		offset += 40;
	}
	switch (key->protocol) {
	case TCP:
	case UDP:
	case SCTP:
	case UDPLITE:
		if (!load(skb, offset, ports, sizeof(ports), true))
			return false;
		key->ports[SOURCE] = network16(ports[SOURCE]);
		key->ports[DESTINATION] = network16(ports[DESTINATION]);
		return true;
	case ICMP:
	case ICMP6:
		if (!load(skb, offset + 4, ports, 2, true))
			return false;
		key->ports[SOURCE] = ports[0];
		key->ports[DESTINATION] = ports[0];
		return true;
	default:
		return true;
	}
}

/* The same, of an error that goes to the packet's sender. */
INLINE bool key_of_error(struct __sk_buff *skb, const struct packet *packet, struct connection_key *key)
{
	return key_of_quoted(skb, packet, key) && is_same_address(key->addresses[SOURCE], &packet->addresses[DESTINATION]);
}

INLINE void fragment_key_of(const struct packet *packet, struct fragment_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->family = packet->features.family;
	key->protocol = packet->features.protocol;
	key->identification = packet->identification;
	__builtin_memcpy(key->addresses, packet->addresses, sizeof(key->addresses));
}

INLINE bool is_discovery(const struct packet *packet, __u8 from, __u8 to)
{
	return packet->features.protocol == ICMP6 && (packet->features.shape & HAS_ICMP) && packet->features.icmp_type >= from && packet->features.icmp_type <= to;
}

INLINE bool is_unspecified_or_link_local(const struct packet *packet)
{
	const struct address *source = &packet->addresses[SOURCE];
	const __u8 *bytes = (const __u8 *)source;

	if (packet->features.family != 6)
		return false;
	if (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80)
		return true;
	return !(source->words[0] | source->words[1] | source->words[2] | source->words[3]);
}

INLINE bool is_loopback_destination(const struct packet *packet)
{
	const struct address *destination = &packet->addresses[DESTINATION];
	const __u8 *bytes = (const __u8 *)destination;

	if (packet->features.family == 4)
		return bytes[0] == 127;
	return !(destination->words[0] | destination->words[1] | destination->words[2]) &&
	       destination->words[3] == __builtin_bswap32(1);
}

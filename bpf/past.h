/*
 * past: the way past the host stack, for packets of flows in their middle.
 *
 * It is open where the host stack has forwarded a packet of the flow, sent by the same end, as it came, within the last 15 seconds: then what the
 * stack has decided (filters of others, no translation, no encryption, the interface) is taken to hold, and the kernel's own entry of the
 * connection does not expire. What the stack would have to answer, and all that is not sure, goes to the stack.
 */
#pragma once
#include "flows.h"

/* Bytes of the packet, or of the largest that it stands for; 0: not known. */
INLINE __u32 size_of(const struct __sk_buff *skb, const struct packet *packet)
{
	__u32 length = skb->len - ETHERNET_HEADER;

	/* What one of UDP stands for may be packets in a tunnel. */
	if (!packet->length || packet->length > length || (skb->gso_size && packet->features.protocol != TCP))
		return 0;
	return skb->gso_size ? packet->headers + skb->gso_size : length;
}

/* The route of the packet leads to that interface, and the next neighbor's address is known: into the query. */
INLINE bool is_route(struct __sk_buff *skb, const struct packet *packet, __u32 to, __u32 size, struct fib_query *query)
{
	__builtin_memset(query, 0, sizeof(*query));
	query->family = packet->features.family == 4 ? AF_INET : AF_INET6;
	query->protocol = packet->features.protocol;
	query->source_port = network16(packet->ports[SOURCE]);
	query->destination_port = network16(packet->ports[DESTINATION]);
	query->length = size;
	query->interface = skb->ifindex;
	query->flow = packet->class;
	__builtin_memcpy(query->source, &packet->addresses[SOURCE], 16);
	__builtin_memcpy(query->destination, &packet->addresses[DESTINATION], 16);
	return fib_lookup(skb, query, sizeof(*query), 0) == FIB_FORWARDED && query->interface == to;
}

/* The beginning of a frame; what of it is read and written at once. */
struct ethernet {
	__u32 macs[3];
	__u16 protocol;
};
struct ipv4 {
	__u8 version;
	__u8 class;
	__u16 length;
	__u16 identification;
	__u16 fragment;
	__u8 hops;
	__u8 protocol;
	__u16 checksum;
	__u32 addresses[2];
};
struct ipv6 {
	__u32 class;
	__u16 length;
	__u8 next;
	__u8 hops;
	__u32 addresses[2][4];
};
struct transport {
	__u32 ports;
	__u32 sequence;
	__u32 acknowledgment;
	__u8 header;
	__u8 flags;
};

INLINE void *frame_of(const struct __sk_buff *skb)
{
	return (void *)(unsigned long)skb->data;
}

INLINE bool has(const struct __sk_buff *skb, const void *end)
{
	return end <= (const void *)(unsigned long)skb->data_end;
}

/*
 * As the host stack does it: there is one hop less, and the next neighbor's address is there. False: it has no hop left, or is not in one piece, and
 * is as it came.
 */
INLINE bool readdress(struct __sk_buff *skb, const __u32 macs[3])
{
	struct ethernet *ethernet = frame_of(skb);

	if (skb->protocol == network16(ETH_IPV4)) {
		struct ipv4 *ip = frame_of(skb) + ETHERNET_HEADER;
		__u32 sum;

		if (!has(skb, ip + 1) || ip->hops <= 1)
			return false;
		sum = ip->checksum + network16(0x0100);
		ip->checksum = sum + (sum >= 0xffff);
		ip->hops--;
	} else {
		struct ipv6 *ip = frame_of(skb) + ETHERNET_HEADER;
		__u16 hops;

		if (!has(skb, ip + 1) || ip->hops <= 1)
			return false;
		/* What a device has summed up of the packet includes them. */
		hops = ip->next | (ip->hops - 1) << 8;
		if (store(skb, ETHERNET_HEADER + 6, &hops, sizeof(hops), KEEP_CHECKSUM))
			return false;
		ethernet = frame_of(skb);
		if (!has(skb, ethernet + 1))
			return false;
	}
	ethernet->macs[0] = macs[0];
	ethernet->macs[1] = macs[1];
	ethernet->macs[2] = macs[2];
	return true;
}

INLINE int leave_past(struct __sk_buff *skb, union way way)
{
	__u32 at = processor() & (PAST_COUNTS - 1);
	struct past_count *count = map_lookup(&past, &at);

	if (count)
		__sync_fetch_and_add(&count->packets, 1);
	skb->mark = way.to_peer ? skb->mark & ~MARKS : (skb->mark & ~MARKS) | PAST;
	return way.to_peer ? redirect_peer(way.to, 0) : redirect(way.to, 0);
}

/* The place of the lane; all as it is in the packet, the four words of an address of IPv6 as one. */
INLINE __u32 place_of(__u32 source, __u32 destination, __u32 ports)
{
	return ((source ^ ports) * 0x9e3779b1 + destination * 0x85ebca77) >> (32 - LANES_SHIFT);
}

INLINE __u32 folded(const __u32 address[4])
{
	return address[0] ^ address[1] ^ address[2] ^ address[3];
}

INLINE __u32 lane_kind(__u32 family, __u32 protocol)
{
	return family << 8 | protocol;
}

/* Others like this packet need not be looked at, until the kernel's clock ticks; once there is a second one. */
INLINE void open_lane(const struct __sk_buff *skb, const struct run *run, struct connection *flow, union way way,
		      const __u32 macs[3])
{
	const struct packet *packet = &run->packet;
	const __u32 *source = packet->addresses[SOURCE].words, *destination = packet->addresses[DESTINATION].words;
	__u32 ports = network16(packet->ports[SOURCE]) | (__u32)network16(packet->ports[DESTINATION]) << 16;
	/* Of IPv4 the other words are 0. */
	__u32 at = place_of(folded(source), folded(destination), ports);
	__u64 tick = ticks();
	struct lane *lane;

	if (flow->tick != (__u16)tick) {
		flow->tick = tick;
		return;
	}
	lane = map_lookup(&lanes, &at);
	if (!lane)
		return;
	lane->tick = tick;
	lane->way = way;
	lane->generation = run->generation;
	lane->interface = skb->ifindex;
	__builtin_memcpy(lane->macs, macs, sizeof(lane->macs));
	lane->ports = ports;
	lane->kind = lane_kind(packet->features.family, packet->features.protocol);
	__builtin_memcpy(lane->addresses, packet->addresses, sizeof(lane->addresses));
}

/* NEXT: it goes to the host stack, as it came. `has_lane`: the interface asks nothing else of each packet. */
INLINE int go_past(struct __sk_buff *skb, struct run *run, const struct known *known, bool has_lane)
{
	const struct packet *packet = &run->packet;
	struct connection *flow = known->flow;
	__u32 by = known->by & 1, other = !by;
	struct fib_query query;
	__u32 macs[3];
	union way way;
	__u32 size;

	if (!flow || !(run->flags & GOES_PAST) || !is_in_the_middle(packet) || !is_open(flow))
		return NEXT;
	way.all = flow->ways[by].all;
	if (!way.to || (__u32)(known->now >> WAY_SHIFT) - flow->opened[by] >= WAY_LIFE)
		return NEXT;
	/* The other end is reached by where this comes from. */
	if (flow->ways[other].to != skb->ifindex || way.to == skb->ifindex)
		return NEXT;
	if (flow->ends[other] == AT_WORKLOAD && flow->interfaces[other] != way.to)
		return NEXT;
	if (skb->pkt_type != TO_INTERFACE || skb->vlan_present)
		return NEXT;
	size = size_of(skb, packet);
	if (!size || size > way.most || !is_route(skb, packet, way.to, size, &query))
		return NEXT;
	__builtin_memcpy(macs, query.destination_mac, 6);
	__builtin_memcpy((__u8 *)macs + 6, query.source_mac, 6);
	if (!readdress(skb, macs))
		return NEXT;
	if (has_lane)
		open_lane(skb, run, flow, way, macs);
	if (by == CALLER)
		refresh(flow, packet, CALLER, known->now);
	return leave_past(skb, way);
}

/* Of a packet, what is to be compared with its lane. */
struct lane_packet {
	const struct lane *lane;
	const struct transport *transport;
	__u32 header; /* bytes */
	__u32 length; /* bytes, as the header says */
	__u32 kind;
};

INLINE bool find_lane4(const struct __sk_buff *skb, struct lane_packet *packet)
{
	const struct ipv4 *ip = frame_of(skb) + ETHERNET_HEADER;
	const struct transport *transport = (const void *)(ip + 1);
	const struct lane *lane;
	__u32 at;

	/* UDP has eight bytes of header, and what is shorter than sixteen is not worth it. */
	if (!has(skb, transport + 1) || ip->version != 0x45 || (ip->fragment & network16(0x3fff)))
		return false;
	at = place_of(ip->addresses[SOURCE], ip->addresses[DESTINATION], transport->ports);
	lane = map_lookup(&lanes, &at);
	packet->lane = lane;
	packet->transport = transport;
	packet->header = sizeof(*ip);
	packet->length = network16(ip->length);
	packet->kind = lane_kind(4, ip->protocol);
	return lane && lane->addresses[SOURCE][0] == ip->addresses[SOURCE] &&
	       lane->addresses[DESTINATION][0] == ip->addresses[DESTINATION];
}

INLINE bool is_same(const __u32 one[4], const __u32 other[4])
{
	return !((one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) | (one[3] ^ other[3]));
}

INLINE bool find_lane6(const struct __sk_buff *skb, struct lane_packet *packet)
{
	const struct ipv6 *ip = frame_of(skb) + ETHERNET_HEADER;
	const struct transport *transport = (const void *)(ip + 1);
	const struct lane *lane;
	__u32 at;

	if (!has(skb, transport + 1) || (*(const __u8 *)ip & 0xf0) != 0x60)
		return false;
	at = place_of(folded(ip->addresses[SOURCE]), folded(ip->addresses[DESTINATION]), transport->ports);
	lane = map_lookup(&lanes, &at);
	packet->lane = lane;
	packet->transport = transport;
	packet->header = sizeof(*ip);
	packet->length = network16(ip->length) + sizeof(*ip);
	packet->kind = lane_kind(6, ip->next);
	return lane && is_same(lane->addresses[SOURCE], ip->addresses[SOURCE]) &&
	       is_same(lane->addresses[DESTINATION], ip->addresses[DESTINATION]);
}

/* The lane of the packet, if one like it went past the host stack in this tick; NEXT: none, or it is to be looked at. */
INLINE int take_lane(struct __sk_buff *skb)
{
	const struct ethernet *ethernet = frame_of(skb);
	struct lane_packet packet;
	const struct lane *lane;
	const struct state *current;
	__u32 zero = 0, size = skb->len - ETHERNET_HEADER;

	if (!has(skb, ethernet + 1) || skb->pkt_type != TO_INTERFACE || skb->vlan_present ||
	    ethernet->protocol != skb->protocol)
		return NEXT;
	if (!(skb->protocol == network16(ETH_IPV4) ? find_lane4(skb, &packet) : find_lane6(skb, &packet)))
		return NEXT;
	lane = packet.lane;
	if (lane->tick != ticks() || lane->interface != skb->ifindex || lane->kind != packet.kind ||
	    lane->ports != packet.transport->ports || packet.length > size || packet.length <= packet.header)
		return NEXT;
	if ((packet.kind & 0xff) == TCP) {
		if (packet.transport->flags & (FIN | SYN | RST))
			return NEXT;
		if (skb->gso_size)
			size = packet.header + (packet.transport->header >> 4) * 4 + skb->gso_size;
	} else if (skb->gso_size)
		return NEXT;
	current = map_lookup(&state, &zero);
	if (!current || lane->generation != current->generation || !(current->flags & GOES_PAST) ||
	    size > lane->way.most || !readdress(skb, lane->macs))
		return NEXT;
	return leave_past(skb, lane->way);
}

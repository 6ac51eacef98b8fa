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

/* The beginning of a packet, with what the host stack changes of it. */
union front {
	struct {
		__u32 macs[3]; /* of the next neighbor, and of the interface */
		__u16 protocol;
		__u8 header[12]; /* of IPv4, up to its checksum; of IPv6 eight bytes, up to its hop limit */
	} __attribute__((packed));
	__u32 words[7];
};

/* As the host stack does it: the next neighbor's address is there, and there is one hop less. */
INLINE bool readdress(struct __sk_buff *skb, union front *front)
{
	__u32 sum;
	__u16 folded;

	front->protocol = skb->protocol;
	if (skb->protocol == network16(ETH_IPV6)) {
		front->header[7]--;
		return !store(skb, 0, front, ETHERNET_HEADER, 0) &&
		       !store(skb, ETHERNET_HEADER + 6, front->header + 6, 2, KEEP_CHECKSUM);
	}
	front->header[8]--;
	__builtin_memcpy(&folded, front->header + 10, 2);
	sum = folded + network16(0x0100);
	folded = sum + (sum >= 0xffff);
	__builtin_memcpy(front->header + 10, &folded, 2);
	return !store(skb, 0, front, ETHERNET_HEADER + 12, 0);
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

/* Others like this packet need not be looked at, until the kernel's clock ticks; once there is a second one. */
INLINE void open_lane(const struct __sk_buff *skb, const struct run *run, struct connection *flow, const struct lane *fresh)
{
	const struct packet *packet = &run->packet;
	struct lane_key key = {
		.interface = skb->ifindex,
		.family = packet->features.family,
		.protocol = packet->features.protocol,
		.ports = { network16(packet->ports[SOURCE]), network16(packet->ports[DESTINATION]) },
	};
	struct lane *lane;

	if (flow->tick != (__u16)fresh->tick) {
		flow->tick = fresh->tick;
		return;
	}
	__builtin_memcpy(key.addresses, packet->addresses, sizeof(key.addresses));
	lane = map_lookup(&lanes, &key);
	if (lane && lane->way.all == fresh->way.all && lane->generation == fresh->generation &&
	    lane->macs[0] == fresh->macs[0] && lane->macs[1] == fresh->macs[1] && lane->macs[2] == fresh->macs[2])
		lane->tick = fresh->tick;
	else
		map_update(&lanes, &key, fresh, 0);
}

/* NEXT: it goes to the host stack, as it came. `has_lane`: the interface asks nothing else of each packet. */
INLINE int go_past(struct __sk_buff *skb, struct run *run, const struct known *known, bool has_lane)
{
	const struct packet *packet = &run->packet;
	struct connection *flow = known->flow;
	__u32 by = known->by & 1, other = !by;
	struct fib_query query;
	struct lane lane = {};
	union front front;
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
	if (skb->pkt_type != TO_INTERFACE || skb->vlan_present ||
	    packet->front[packet->features.family == 4 ? 8 : 7] <= 1)
		return NEXT;
	size = size_of(skb, packet);
	if (!size || size > way.most || !is_route(skb, packet, way.to, size, &query))
		return NEXT;
	__builtin_memcpy(lane.macs, query.destination_mac, 6);
	__builtin_memcpy((__u8 *)lane.macs + 6, query.source_mac, 6);
	if (has_lane) {
		lane.tick = ticks();
		lane.way = way;
		lane.generation = run->generation;
		open_lane(skb, run, flow, &lane);
	}
	if (by == CALLER)
		refresh(flow, packet, CALLER, known->now);
	__builtin_memcpy(front.macs, lane.macs, sizeof(front.macs));
	__builtin_memcpy(front.header, packet->front, sizeof(front.header));
	if (!readdress(skb, &front))
		return DROP;
	return leave_past(skb, way);
}

/* The bytes of a packet that it takes to find its lane. */
struct ethernet {
	__u8 macs[12];
	__u16 protocol;
} __attribute__((packed));
struct ipv4 {
	__u8 version;
	__u8 class;
	__u16 length;
	__u16 identification;
	__u16 fragment;
	__u8 hops[4];
	__u8 addresses[2][4];
};
struct ipv6 {
	__u32 class;
	__u16 length;
	__u8 next;
	__u8 hops;
	__u8 addresses[2][16];
};
struct transport {
	__u16 ports[2];
	__u32 sequence;
	__u32 acknowledgment;
	__u8 header;
	__u8 flags;
};

/* The lane of the packet, if one like it went past the host stack in this tick; NEXT: none, or it is to be looked at. */
INLINE int take_lane(struct __sk_buff *skb)
{
	const struct ethernet *ethernet = (const void *)(unsigned long)skb->data;
	const void *end = (const void *)(unsigned long)skb->data_end;
	const struct transport *transport;
	struct lane_key key = { .interface = skb->ifindex };
	const struct lane *lane;
	const struct state *current;
	__u32 zero = 0, size, length, header;
	union front front;
	union way way;

	if ((const void *)(ethernet + 1) > end || skb->pkt_type != TO_INTERFACE || skb->vlan_present ||
	    ethernet->protocol != skb->protocol)
		return NEXT;
	if (skb->protocol == network16(ETH_IPV4)) {
		const struct ipv4 *ip = (const void *)(ethernet + 1);

		transport = (const void *)(ip + 1);
		/* UDP has eight bytes of header, and what is shorter than twenty is not worth it. */
		if ((const void *)(transport + 1) > end || ip->version != 0x45 || (ip->fragment & network16(0x3fff)))
			return NEXT;
		header = sizeof(*ip);
		length = network16(ip->length);
		key.family = 4;
		key.protocol = ip->hops[1];
		__builtin_memcpy(key.addresses[SOURCE], ip->addresses[SOURCE], 4);
		__builtin_memcpy(key.addresses[DESTINATION], ip->addresses[DESTINATION], 4);
		__builtin_memcpy(front.header, ip, sizeof(front.header));
		if (ip->hops[0] <= 1)
			return NEXT;
	} else {
		const struct ipv6 *ip = (const void *)(ethernet + 1);

		transport = (const void *)(ip + 1);
		if ((const void *)(transport + 1) > end || (*(const __u8 *)ip & 0xf0) != 0x60)
			return NEXT;
		header = sizeof(*ip);
		length = network16(ip->length) + sizeof(*ip);
		key.family = 6;
		key.protocol = ip->next;
		__builtin_memcpy(key.addresses, ip->addresses, sizeof(key.addresses));
		__builtin_memcpy(front.header, ip, 8);
		if (ip->hops <= 1)
			return NEXT;
	}
	size = skb->len - ETHERNET_HEADER;
	if (length > size || length <= header)
		return NEXT;
	if (key.protocol == TCP) {
		if (transport->flags & (FIN | SYN | RST))
			return NEXT;
		if (skb->gso_size)
			size = header + (transport->header >> 4) * 4 + skb->gso_size;
	} else if (key.protocol != UDP || skb->gso_size)
		return NEXT;
	key.ports[SOURCE] = transport->ports[SOURCE];
	key.ports[DESTINATION] = transport->ports[DESTINATION];
	lane = map_lookup(&lanes, &key);
	if (!lane || lane->tick != ticks())
		return NEXT;
	current = map_lookup(&state, &zero);
	way.all = lane->way.all;
	if (!current || lane->generation != current->generation || !(current->flags & GOES_PAST) || size > way.most)
		return NEXT;
	__builtin_memcpy(front.macs, lane->macs, sizeof(front.macs));
	if (!readdress(skb, &front))
		return DROP;
	return leave_past(skb, way);
}

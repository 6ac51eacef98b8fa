/*
 * layout: the maps, as src/dataplane/ebpf/layout.ts writes and reads them. Integers are in host order, addresses and prefixes in network
 * order; an IPv4 address is the first four bytes of its sixteen.
 *
 * What may change under running packets carries the generation from which it holds. A packet is judged by one generation throughout.
 */
#pragma once
#include "kernel.h"

enum { RECORDS = 1 << 18 };

/* One step of the interpreter. */
enum kind {
	MATCH = 1, /* all conditions hold: `yes` records further, else `no` records; 0 ends the policy */
	ACTION, /* what a rule does; `no` of one that logs is where the next rule is */
	EMPTY_POLICY,
	TIER, /* a tier begins; a rule that passes goes `yes` records further */
	CALL, /* runs the policy at record `target`, then goes on */
	TIER_END, /* no rule of the tier matched */
	PROFILES, /* the profiles begin; a rule that passes goes `yes` records further */
	END,
	STAGED, /* first the stage at record `target` is asked, which counts and decides nothing */
	NO_STAGE, /* after a staged stage, where there is no other */
	/* Of a staged stage and its policies. */
	STAGED_ACTION,
	STAGED_TIER_END,
	STAGED_END,
};

enum action { ALLOW = 1, DENY, PASS, LOG };

/* Which conditions a record has, for those who read it; what the interpreter compares is beside it. */
enum condition {
	ON_FAMILY = 1 << 0,
	ON_PROTOCOL = 1 << 1,
	ON_ICMP_TYPE = 1 << 2,
	ON_ICMP_CODE = 1 << 3,
	ON_SET = 1 << 4,
	ON_PORTS = 1 << 5,
	ON_NAMED_PORT = 1 << 6,
	SET_OF_DESTINATION = 1 << 7,
	PORT_OF_DESTINATION = 1 << 8,
	SET_HAS_HOSTS = 1 << 9,
	SET_HAS_NETS = 1 << 10,
	/* How conditions make clauses. */
	IN_LIST = 1 << 11,
	LIST_ENDS = 1 << 12,
	LIST_IS_NEGATED = 1 << 13,
	LIST_IS_EMPTY = 1 << 14,
};

/* What is compared of a packet, as one integer. */
union features {
	struct {
		__u8 family; /* 4 or 6 */
		__u8 protocol;
		__u8 shape;
		__u8 icmp_type;
		__u8 icmp_code;
		__u8 unused[3];
	};
	__u64 all;
};
enum shape { HAS_PORTS = 1, HAS_ICMP = 2, NO_PACKET_HAS = 128 };

struct record {
	__u8 kind;
	__u8 detail; /* action, or action at the end */
	__u16 conditions;
	__u32 target; /* number of the set, first record of the policy, or index of the rule */
	union features value; /* equal to the packet's where `mask` has ones */
	union features mask;
	__u16 from; /* 0 to 65535: of any port, or none */
	__u16 to;
	__u16 yes;
	__u16 no;
};

/* Bytes are those from the IP header on. */
struct count {
	__u64 packets;
	__u64 bytes;
};

struct state {
	__u32 generation;
	__u32 flags;
	__u32 failsafes; /* the version in force */
	__u32 settings; /* of the kernel, as they were before packets went past the host stack: for the daemon alone */
};
enum { DROPS_FOR_HOST = 1, HAS_HOST_ENDPOINTS = 2, GOES_PAST = 4 };

/* Exists from generation `born`, no more from `died`; 0: for good. */
struct life {
	__u32 born;
	__u32 died;
};

enum direction { INGRESS, EGRESS, DIRECTIONS };
enum hook { UNTRACKED, PRE_DNAT, FORWARD, NORMAL, HOOKS };
enum endpoint_kind { WORKLOAD = 1, HOST };

/* In the number of a first record: the stage is a staged one alone. */
#define COUNTS_ALONE (1U << 30)

/* First records of the stages of an endpoint, hook by hook; 0: none. `before` holds up to generation `since`. Interface 0 stands for every
 * one that has no endpoint and is no workload's. */
struct stages {
	__u32 kind; /* 0: no endpoint */
	__u32 sources; /* number of the set of a workload's source prefixes; 0: it has none */
	__u32 first[HOOKS * DIRECTIONS];
};
struct endpoint {
	__u32 since;
	struct stages before;
	struct stages after;
};

struct address_key {
	__u32 interface;
	__u32 family;
	__u8 address[16];
};

/* A host of a set has neither protocol nor port. */
struct member_key {
	__u32 set;
	__u16 port;
	__u8 protocol;
	__u8 family;
	__u8 address[16];
};

struct net_key {
	__u32 bits; /* of what follows */
	__u32 set;
	__u32 family;
	__u8 address[16];
};

/* A port of the host that policy never denies. */
struct failsafe_key {
	__u32 bits; /* of what follows */
	__u32 version;
	__u8 direction;
	__u8 protocol;
	__u16 port;
	__u32 family;
	__u8 address[16]; /* of the other end */
};

/*
 * A flow that policy has allowed, as the packet was that began it when it left the node: translated. Answers come in with the tuple turned
 * round, before they are translated back. Of an echo both ports are the identifier.
 */
struct connection_key {
	__u8 family;
	__u8 protocol;
	__u16 unused;
	__u16 ports[2];
	__u8 addresses[2][16];
};
enum end_kind { OUTSIDE, AT_WORKLOAD, AT_NODE };
/* How the host stack has forwarded a packet of the flow; written and read at once. */
union way {
	struct {
		__u32 to; /* the interface; 0: it has forwarded none */
		__u16 most; /* bytes of a packet there */
		__u8 to_peer; /* packets may go into the other end of the pair */
		__u8 unused;
	};
	__u64 all;
};
struct connection {
	__u64 seen; /* nanoseconds since boot */
	__u8 flags;
	__u8 ends[2]; /* the kind of who began it, and of the other */
	__u8 is_alias; /* the tuple before translation of a flow to the node: only the node's answers use it */
	__u32 interfaces[2]; /* of the two ends; 0: not known, or the node */
	__u16 ports[2]; /* this and addresses: as it was sent, before any translation */
	__u8 icmp_type;
	__u8 icmp_code;
	__u16 tick; /* of the kernel, in which the path last sent a packet past the host stack */
	__u32 unused;
	__u8 addresses[2][16];
	/* Of what the caller sends, and of what the other sends. */
	union way ways[2];
	__u32 opened[2]; /* when the host stack did so last; in 2^20 ns since boot */
};
enum {
	ANSWERED = 1,
	CALLER_FINISHED = 2, /* has sent a FIN */
	ANSWERER_FINISHED = 4,
	RESET = 8,
	CUT = 16, /* policy denies it now: what answers it begins no flow for a while */
	PICKED_UP = 32, /* taken over in its middle: either end may have begun it */
};

/* A packet as it came in, for the place where it leaves, where its source may be the node's own address. The packet carries the token. */
enum { ORIGINS = 1 << 14 };
struct origin {
	__u64 seen; /* nanoseconds since boot */
	__u16 token; /* 0: none */
	__u8 family;
	__u8 protocol;
	__u32 interface;
	__u32 name; /* what no translation changes, so that no other packet passes for it */
	__u32 sequence;
	__u16 ports[2];
	__u32 unused;
	__u8 addresses[2][16];
};

/* A packet in pieces, the first of which was let through. */
struct fragment_key {
	__u8 family;
	__u8 protocol;
	__u16 is_carried; /* at the place where it came in, for a flow whose packets carry that they are known */
	__u32 identification;
	__u8 addresses[2][16];
};

/* An interface of Ethernet between which and another of them packets may go past the host stack. */
struct device {
	__u32 most; /* bytes of a packet */
	__u32 to_peer; /* 1: into the other end of the pair, which is in another network namespace */
};

/*
 * What the path has found of a packet that it sent past the host stack, for those like it in the same tick of the kernel's clock, 1 to 10 ms. Each
 * processor has its own, at a place that the packet's tuple gives: the last flow that came there has it. The packet is as it comes in.
 */
enum { LANES_SHIFT = 10, LANES = 1 << LANES_SHIFT };
struct lane {
	__u64 tick;
	union way way;
	__u32 generation;
	__u32 interface;
	__u32 macs[3]; /* of the next neighbor, and of the interface */
	__u32 ports; /* as they are in the packet */
	__u32 kind; /* family and protocol */
	__u32 addresses[2][4];
	__u32 unused;
};

/* Packets that went past the host stack, by processor: each has a line of the cache. */
enum { PAST_COUNTS = 64 };
struct past_count {
	__u64 packets;
	__u64 unused[7];
};

/* Blocks of records, and sets: what they are, for the daemon that reads them after a restart. */
struct object_key {
	__u32 kind;
	__u32 number; /* of a set, or first record */
};
struct object {
	__u32 count; /* of records */
	__u32 text_bytes;
};
struct text_key {
	__u32 kind;
	__u32 number;
	__u32 part;
};
struct text {
	__u8 bytes[256];
};

/* What the daemon is told of a packet: by a rule that logs, or that a stage has denied a first packet. */
enum event_kind { EVENT_LOG = 1, EVENT_DENIED };
struct event {
	__u64 time; /* nanoseconds since boot */
	__u32 record; /* that decided or logged */
	__u32 generation; /* in which it was that record */
	__u32 interfaces[2]; /* that it came from and leaves by; 0: the node itself */
	__u8 kind;
	__u8 family;
	__u8 protocol;
	__u8 tcp_flags;
	__u16 ports[2];
	__u8 icmp_type;
	__u8 icmp_code;
	__u16 shape;
	__u32 unused;
	__u8 addresses[2][16];
};
/* Denied packets of one processor and second; others are counted as missed. */
enum { MOST_DENIED = 100 };
struct bucket {
	__u64 second;
	__u64 events;
};

/* Steps of the path that drop. */
enum dropped {
	DROPPED_LOOPBACK,
	DROPPED_SPOOFED,
	DROPPED_LINK_LOCAL,
	DROPPED_UNKNOWN,
	DROPPED_FOR_HOST,
	DROPPED_MALFORMED,
	DROPPED_UNFINISHED,
	DROPPED_INVALID,
	DROPPED_ORIGIN,
	DROPPED_CUT,
	DROPPED_COUNT,
};

struct {
	NUMBER(type, MAP_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, struct state);
} state SECTION(".maps");

struct {
	NUMBER(type, MAP_ARRAY);
	NUMBER(max_entries, RECORDS);
	TYPE(key, __u32);
	TYPE(value, struct record);
} records SECTION(".maps");

/* By record: of an action, of a tier's end, of a stage's end; also of staged ones. */
struct {
	NUMBER(type, MAP_ARRAY);
	NUMBER(max_entries, RECORDS);
	TYPE(key, __u32);
	TYPE(value, struct count);
} counters SECTION(".maps");

struct {
	NUMBER(type, MAP_ARRAY);
	NUMBER(max_entries, DROPPED_COUNT);
	TYPE(key, __u32);
	TYPE(value, __u64);
} drops SECTION(".maps");

struct {
	NUMBER(type, MAP_HASH);
	NUMBER(max_entries, 1 << 14);
	NUMBER(map_flags, NO_PREALLOC);
	TYPE(key, __u32);
	TYPE(value, struct endpoint);
} endpoints SECTION(".maps");

struct {
	NUMBER(type, MAP_HASH);
	NUMBER(max_entries, 1 << 15);
	NUMBER(map_flags, NO_PREALLOC);
	TYPE(key, struct address_key);
	TYPE(value, struct life);
} addresses SECTION(".maps");

struct {
	NUMBER(type, MAP_HASH);
	NUMBER(max_entries, 1 << 20);
	NUMBER(map_flags, NO_PREALLOC);
	TYPE(key, struct member_key);
	TYPE(value, struct life);
} members SECTION(".maps");

struct {
	NUMBER(type, MAP_LPM_TRIE);
	NUMBER(max_entries, 1 << 20);
	NUMBER(map_flags, NO_PREALLOC);
	TYPE(key, struct net_key);
	TYPE(value, __u32);
} nets SECTION(".maps");

struct {
	NUMBER(type, MAP_LPM_TRIE);
	NUMBER(max_entries, 1 << 12);
	NUMBER(map_flags, NO_PREALLOC);
	TYPE(key, struct failsafe_key);
	TYPE(value, __u32);
} failsafes SECTION(".maps");

struct {
	NUMBER(type, MAP_LRU_HASH);
	NUMBER(max_entries, 1 << 18);
	TYPE(key, struct connection_key);
	TYPE(value, struct connection);
} connections SECTION(".maps");

struct {
	NUMBER(type, MAP_HASH);
	NUMBER(max_entries, 1 << 14);
	NUMBER(map_flags, NO_PREALLOC);
	TYPE(key, __u32);
	TYPE(value, struct device);
} devices SECTION(".maps");

struct {
	NUMBER(type, MAP_PER_CPU_ARRAY);
	NUMBER(max_entries, LANES);
	TYPE(key, __u32);
	TYPE(value, struct lane);
} lanes SECTION(".maps");

struct {
	NUMBER(type, MAP_ARRAY);
	NUMBER(max_entries, PAST_COUNTS);
	TYPE(key, __u32);
	TYPE(value, struct past_count);
} past SECTION(".maps");

/* When the first piece was let through. */
struct {
	NUMBER(type, MAP_LRU_HASH);
	NUMBER(max_entries, 1 << 12);
	TYPE(key, struct fragment_key);
	TYPE(value, __u64);
} fragments SECTION(".maps");

struct {
	NUMBER(type, MAP_ARRAY);
	NUMBER(max_entries, ORIGINS);
	TYPE(key, __u32);
	TYPE(value, struct origin);
} origins SECTION(".maps");

/* 1: the gate asks to_node about what is to reach the node itself; 0: it drops what is marked so. */
struct {
	NUMBER(type, MAP_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, __u32);
} gate SECTION(".maps");

/* Bytes: each event takes 80. */
struct {
	NUMBER(type, MAP_RING);
	NUMBER(max_entries, 1 << 18);
} events SECTION(".maps");

/* Events that nobody was told of. */
struct {
	NUMBER(type, MAP_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, __u64);
} missed SECTION(".maps");

struct {
	NUMBER(type, MAP_PER_CPU_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, struct bucket);
} buckets SECTION(".maps");

struct {
	NUMBER(type, MAP_HASH);
	NUMBER(max_entries, 1 << 16);
	NUMBER(map_flags, NO_PREALLOC);
	TYPE(key, struct object_key);
	TYPE(value, struct object);
} objects SECTION(".maps");

struct {
	NUMBER(type, MAP_HASH);
	NUMBER(max_entries, 1 << 17);
	NUMBER(map_flags, NO_PREALLOC);
	TYPE(key, struct text_key);
	TYPE(value, struct text);
} texts SECTION(".maps");

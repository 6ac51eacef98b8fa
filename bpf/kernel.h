/*
 * kernel: what the programs use of the kernel's interface, as of Linux 5.10. Source: linux/bpf.h, pkt_cls.h.
 *
 * The kernel's own headers are not used: the objects would change with their version.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef _Bool bool;
#define true 1
#define false 0

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define OUTLINE __attribute__((noinline))

/* The fields of a map's definition: a number is the length of an array, a type that of a pointer. */
#define NUMBER(name, value) int(*name)[value]
#define TYPE(name, type) type *name

enum {
	MAP_HASH = 1,
	MAP_ARRAY = 2,
	MAP_PER_CPU_ARRAY = 6,
	MAP_LRU_HASH = 9,
	MAP_LPM_TRIE = 11,
	MAP_RING = 27,
	NO_PREALLOC = 1,
};

/* TC_ACT_UNSPEC: the next classifier decides, or the packet goes on. */
enum { NEXT = -1, DROP = 2 };

/* PACKET_HOST: the frame was sent to the interface that has received it. */
enum { TO_INTERFACE = 0 };

/* Its beginning; the kernel checks each access to it. */
struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 tc_index;
	__u32 unused[7];
	__u32 data; /* where its bytes are, and where those end that are in one piece */
	__u32 data_end;
	__u32 unused_too[23];
	__u32 gso_size; /* payload of each packet that it stands for; 0: it is one */
};

/* struct bpf_fib_lookup. */
struct fib_query {
	__u8 family;
	__u8 protocol;
	__u16 source_port;
	__u16 destination_port;
	__u16 length;
	__u32 interface;
	__u32 flow;
	__u8 source[16];
	__u8 destination[16];
	__u16 vlan_protocol;
	__u16 vlan_tag;
	__u8 source_mac[6];
	__u8 destination_mac[6];
};

/* BPF_FIB_LKUP_RET_*: it goes on as the answer says; it is for the node itself or leads nowhere; the node does not forward. */
enum { FIB_FORWARDED = 0, FIB_NOT_FORWARDED = 4, FIB_NO_FORWARDING = 5 };

enum { FROM_NETWORK_HEADER = 1 };
/* BPF_F_RECOMPUTE_CSUM */
enum { KEEP_CHECKSUM = 1 };

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*map_delete)(void *map, const void *key) = (void *)3;
static __u32 (*random32)(void) = (void *)7;
static __u32 (*processor)(void) = (void *)8;
static long (*store)(struct __sk_buff *packet, __u32 offset, const void *from, __u32 length, __u64 flags) = (void *)9;
static long (*redirect)(__u32 interface, __u64 flags) = (void *)23;
static long (*pull)(struct __sk_buff *packet, __u32 length) = (void *)39;
static long (*load_relative)(const struct __sk_buff *packet, __u32 offset, void *to, __u32 length,
			     __u32 from) = (void *)68;
static long (*fib_lookup)(struct __sk_buff *packet, struct fib_query *query, int length,
			  __u32 flags) = (void *)69;
static __u64 (*ticks)(void) = (void *)118;
static __u64 (*nanoseconds_since_boot)(void) = (void *)125;
static long (*ring_output)(void *ring, const void *record, __u64 length, __u64 flags) = (void *)130;
static long (*redirect_peer)(__u32 interface, __u64 flags) = (void *)155;

INLINE __u16 network16(__u16 value)
{
	return __builtin_bswap16(value);
}

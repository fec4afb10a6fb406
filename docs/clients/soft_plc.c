/* A soft PLC in C, written from docs/verdict.md alone; the numbers in comments are its rules.
 *
 *   cc -std=c11 -Wall -Wextra -O2 soft_plc.c -lzmq -lmsgpackc -o soft_plc     (libzmq3-dev, libmsgpack-dev)
 *   ./soft_plc --verdicts tcp://127.0.0.1:5560 --control ipc:///var/lib/edged/run/control.sock --program bracket
 *
 * With --control it announces seam after seam and acts on the verdict of that seam only; without, it shows the
 * newest verdict. What it does stands on stdout, one line each:
 *
 *   SEQUENCE LABEL ID    an entry was acted on; ID is the seam's seam_id, or the part's part_id
 *   ok 1 | ok 0          the output "this seam is OK" of the PLC; 0 until proven otherwise, and again when stale
 *   state live | stale   heartbeats come, or do not
 *   journal ID           this journal is followed from now on
 *   lost FIRST LAST      entries that nobody can have any more
 *   expect ID            a seam was announced
 *
 * edged judges quality. It is never a safety device.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <inttypes.h>
#include <msgpack.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { MAX_PAYLOAD = 262144, MAX_ANSWER = 2097152, MAX_SUB = 524288, MAX_TOPIC = 4096 }; /* 1.3, 2.3 */
enum { MAX_AHEAD = 1000, STALE_MS = 3000, ASK_AGAIN_MS = 2000, TURN_MS = 100 };          /* 3.5, 6.2, 4.4 */
enum { RENEW_MS = 3000, RENEW_MAX_MS = 30000 };                                          /* 6.6 */
enum { MAX_NAME = 64, MAX_ID = 1000, MAX_TEXT = 4 * MAX_ID, KEY_CHARS = 40, SCHEMA = 1 };

typedef struct {
    char journal[MAX_NAME * 4 + 1];
    uint64_t sequence;
    int label;
    char id[MAX_TEXT + 1];
} entry_t;

typedef struct {
    const char *verdicts, *journal, *control, *keys, *position, *program, *part, *start;
    long seams, within_ms;
} options_t;

static options_t options = {.verdicts = "tcp://127.0.0.1:5560", .start = "now", .part = "P-1", .within_ms = 60000};

/* What is followed (4): journal, position, known, and the entries beyond a gap. */
static char journal[sizeof((entry_t *)0)->journal], former[sizeof journal], kept_journal[sizeof journal];
static uint64_t position, known, kept_position;
static entry_t ahead[MAX_AHEAD];
static size_t ahead_count;
static bool must_ask = true;

/* The one question on its way (4.4, 5.2). */
static uint64_t asked_id, next_id = 1, asked_from, asked_to, asked_position, asked_known;
static int64_t asked_ms, not_before_ms;
static bool asked_snapshot;

/* Heartbeats (6). */
static char beat_journal[sizeof journal];
static int64_t beat_ms = INT64_MIN / 2;
static bool is_live;

/* The PLC's own part: which seam it waits for, and its output. */
static char expected[sizeof((entry_t *)0)->id];
static int output = -1, last_label;
static int64_t expected_until_ms;
static long judged, acted;

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void stop(const char *what, const char *why) {
    fprintf(stderr, "soft_plc: %s: %s\n", what, why);
    exit(2);
}

/* ---- msgpack: fields of a map, with their types checked (2.1, 2.2) ---- */

static const msgpack_object *field(const msgpack_object *map, const char *name) {
    const msgpack_object *found = NULL;
    for (uint32_t i = 0; map->type == MSGPACK_OBJECT_MAP && i < map->via.map.size; i++) {
        const msgpack_object *key = &map->via.map.ptr[i].key;
        if (key->type == MSGPACK_OBJECT_STR && key->via.str.size == strlen(name) &&
            memcmp(key->via.str.ptr, name, key->via.str.size) == 0)
            found = &map->via.map.ptr[i].val;
    }
    return found;
}

static bool number(const msgpack_object *map, const char *name, uint64_t *value) {
    const msgpack_object *found = field(map, name);
    if (found == NULL || found->type != MSGPACK_OBJECT_POSITIVE_INTEGER || found->via.u64 > INT64_MAX) return false;
    *value = found->via.u64;
    return true;
}

static bool text(const msgpack_object *map, const char *name, char *value, size_t room) {
    const msgpack_object *found = field(map, name);
    value[0] = 0;
    if (found == NULL || found->type != MSGPACK_OBJECT_STR || found->via.str.size >= room) return false;
    if (memchr(found->via.str.ptr, 0, found->via.str.size) != NULL) return false;
    memcpy(value, found->via.str.ptr, found->via.str.size);
    value[found->via.str.size] = 0;
    return true;
}

/* `into` must be destroyed afterwards in any case. */
static bool unpack(msgpack_unpacked *into, const void *bytes, size_t size, size_t limit) {
    size_t at = 0;
    msgpack_unpacked_init(into);
    return size <= limit && msgpack_unpack_next(into, bytes, size, &at) == MSGPACK_UNPACK_SUCCESS && at == size &&
           into->data.type == MSGPACK_OBJECT_MAP;
}

static void put(msgpack_packer *to, const char *value) {
    msgpack_pack_str(to, strlen(value));
    msgpack_pack_str_body(to, value, strlen(value));
}

/* The label (2.6): 0 unless the message is all that it should be (2.5, 9.3). */
static int label_of(const char *topic, size_t topic_size, const msgpack_object *map, entry_t *entry) {
    static char program[MAX_TEXT + 1];
    char kind[16];
    uint64_t schema, label;
    bool is_part = topic_size == 4;
    if (!text(map, is_part ? "part_id" : "seam_id", entry->id, sizeof entry->id)) return 0;
    if (!text(map, "kind", kind, sizeof kind) || strcmp(kind, is_part ? "part" : "verdict") != 0) return 0;
    if (!number(map, "schema", &schema) || schema != SCHEMA) return 0;
    if (!is_part) {
        if (!text(map, "program", program, sizeof program)) return 0;
        const char *named = program[0] ? program : "unknown";
        if (strlen(named) != topic_size - 8 || memcmp(named, topic + 8, topic_size - 8) != 0) return 0;
    }
    return number(map, "label", &label) && label <= 2 ? (int)label : 0;
}

/* Whether this is an entry, and which (3.1). */
static bool read_entry(const char *topic, size_t topic_size, const void *bytes, size_t size, entry_t *entry) {
    bool is_verdict = topic_size > 8 && memcmp(topic, "verdict/", 8) == 0;
    bool is_part = topic_size == 4 && memcmp(topic, "part", 4) == 0;
    msgpack_unpacked unpacked;
    bool is_read = unpack(&unpacked, bytes, size, MAX_PAYLOAD) && (is_verdict || is_part) &&
                   text(&unpacked.data, "journal_id", entry->journal, sizeof entry->journal) &&
                   entry->journal[0] != 0 && number(&unpacked.data, "sequence", &entry->sequence) &&
                   entry->sequence > 0;
    if (is_read) entry->label = label_of(topic, topic_size, &unpacked.data, entry);
    msgpack_unpacked_destroy(&unpacked);
    return is_read;
}

/* ---- the PLC ---- */

static void set_output(int value) {
    if (value == output) return;
    output = value;
    printf("ok %d\n", value);
}

/* Nothing but a label 1 of the seam in question, while heartbeats come, is OK (the page's second sentence). */
static void decide(void) {
    bool is_ours = options.control == NULL ? position == known : expected[0] == 0;
    set_output(is_live && is_ours && last_label == 1);
}

static void keep_position(void) {
    char beside[4096];
    if (options.position == NULL) return;
    snprintf(beside, sizeof beside, "%s.new", options.position);
    FILE *file = fopen(beside, "w");
    if (file == NULL || fprintf(file, "%s %" PRIu64 "\n", journal, position) < 0 || fflush(file) != 0 ||
        fsync(fileno(file)) != 0 || fclose(file) != 0 || rename(beside, options.position) != 0)
        stop(options.position, strerror(errno));
}

static void act(const entry_t *entry) {
    printf("%" PRIu64 " %d %s\n", entry->sequence, entry->label, entry->id);
    if (options.control == NULL) {
        last_label = entry->label;
    } else if (expected[0] != 0 && strcmp(entry->id, expected) == 0) {
        last_label = entry->label;
        expected[0] = 0;
        expected_until_ms = 0;
        judged++;
    }
    acted++;
    position = entry->sequence; /* 3.2: after acting */
    keep_position();
}

static void lost(uint64_t first, uint64_t last) { /* 4.5: never silently */
    printf("lost %" PRIu64 " %" PRIu64 "\n", first, last);
    last_label = 0;
    position = last;
    keep_position();
}

/* ---- order (3, 4) ---- */

static void go_on(void) { /* 4.3 */
    for (size_t i = 0; i < ahead_count;) {
        if (ahead[i].sequence > position + 1) {
            i++;
            continue;
        }
        if (ahead[i].sequence == position + 1) act(&ahead[i]);
        ahead[i] = ahead[--ahead_count]; /* acted on, or a repetition: 3.3 */
        i = 0;
    }
}

static void on_entry(const entry_t *entry) {
    if (journal[0] != 0 && strcmp(entry->journal, journal) != 0) { /* 4.6 */
        must_ask |= strcmp(entry->journal, former) != 0;
        return;
    }
    if (journal[0] != 0 && entry->sequence <= position) return; /* 3.3 */
    bool is_there = false;
    for (size_t i = 0; i < ahead_count; i++)
        is_there |= ahead[i].sequence == entry->sequence && strcmp(ahead[i].journal, entry->journal) == 0;
    if (!is_there && ahead_count < MAX_AHEAD) ahead[ahead_count++] = *entry; /* 3.5 */
    if (journal[0] == 0) return;
    if (entry->sequence > known) known = entry->sequence;
    go_on();
}

static void on_heartbeat(const void *bytes, size_t size, int64_t arrived_ms) {
    msgpack_unpacked unpacked;
    char named[sizeof journal];
    uint64_t last;
    if (unpack(&unpacked, bytes, size, MAX_PAYLOAD) && text(&unpacked.data, "journal_id", named, sizeof named) &&
        number(&unpacked.data, "last_sequence", &last)) {
        bool is_ours = strcmp(named, journal) == 0;
        if (is_ours || strcmp(named, former) != 0) {
            strcpy(beat_journal, named);
            beat_ms = arrived_ms;
            must_ask |= !is_ours || last < position; /* 4.6; 4.7: ask, a heartbeat alone proves nothing */
        }
        if (is_ours && last > known) known = last; /* 6.3 */
    }
    msgpack_unpacked_destroy(&unpacked);
}

static void drop_ahead(const char *other_than, uint64_t beyond) {
    size_t kept = 0;
    for (size_t i = 0; i < ahead_count; i++)
        if (strcmp(ahead[i].journal, other_than) == 0 && ahead[i].sequence <= beyond) ahead[kept++] = ahead[i];
    ahead_count = kept;
}

static void follow(const char *named, uint64_t first, uint64_t last) {
    bool has_kept = kept_journal[0] != 0, is_first = journal[0] == 0;
    if (is_first && has_kept && strcmp(named, kept_journal) == 0)
        position = kept_position; /* 4.2 */
    else if (is_first && !has_kept)
        position = strcmp(options.start, "first") == 0 ? (first > 0 ? first - 1 : 0) : last;
    else
        position = 0; /* 4.6 */
    last_label = 0;
    strcpy(former, journal);
    strcpy(journal, named);
    known = last;
    drop_ahead(journal, UINT64_MAX); /* what came before the answer is kept: 4.1 */
    for (size_t i = 0; i < ahead_count; i++)
        if (ahead[i].sequence > known) known = ahead[i].sequence;
    printf("journal %s\n", journal);
}

/* An answer's last_sequence is the journal's own word, given after we asked. */
static void end_of_journal(uint64_t last) {
    if (last < asked_position) { /* 4.7 */
        lost(last + 1, position);
        position = known = last;
        ahead_count = 0;
        keep_position();
    } else if (last < asked_known) { /* 4.9: what was said to lie beyond is not there */
        drop_ahead(journal, last);
        known = last > position ? last : position;
    } else if (last > known) {
        known = last;
    }
}

/* ---- the journal socket (5) ---- */

static void ask(void *socket) {
    int64_t now = now_ms();
    if (asked_id != 0 && now - asked_ms < ASK_AGAIN_MS) return;
    asked_id = 0;
    bool is_behind = journal[0] != 0 && position < known;
    bool is_silent = !is_live && now - asked_ms >= ASK_AGAIN_MS;
    if (now < not_before_ms || (journal[0] != 0 && !must_ask && !is_behind && !is_silent)) return;
    asked_snapshot = journal[0] == 0 || must_ask || !is_behind;
    asked_id = next_id++;
    asked_ms = now;
    asked_position = position;
    asked_known = known;
    asked_from = position + 1;
    asked_to = known;
    for (size_t i = 0; i < ahead_count; i++)
        if (ahead[i].sequence - 1 < asked_to) asked_to = ahead[i].sequence - 1;
    msgpack_sbuffer bytes;
    msgpack_packer to;
    msgpack_sbuffer_init(&bytes);
    msgpack_packer_init(&to, &bytes, msgpack_sbuffer_write);
    msgpack_pack_map(&to, asked_snapshot ? 2 : 5);
    put(&to, "op"), put(&to, asked_snapshot ? "snapshot" : "range");
    put(&to, "id"), msgpack_pack_uint64(&to, asked_id);
    if (!asked_snapshot) {
        put(&to, "journal_id"), put(&to, journal); /* 5.5 */
        put(&to, "from_sequence"), msgpack_pack_uint64(&to, asked_from);
        put(&to, "to_sequence"), msgpack_pack_uint64(&to, asked_to);
    }
    zmq_send(socket, bytes.data, bytes.size, ZMQ_DONTWAIT); /* not sent: asked again after two seconds */
    msgpack_sbuffer_destroy(&bytes);
}

static void on_range(const msgpack_object *answer, uint64_t last) { /* 5.5, 4.4, 4.5 */
    const msgpack_object *rows = field(answer, "entries");
    uint64_t end = asked_to < last ? asked_to : last, count = 0;
    if (rows == NULL || rows->type != MSGPACK_OBJECT_ARRAY) return;
    for (uint32_t i = 0; i < rows->via.array.size; i++) {
        const msgpack_object *row = &rows->via.array.ptr[i];
        if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size != 3) continue;
        const msgpack_object *at = row->via.array.ptr;
        if (at[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER || at[0].via.u64 < asked_from || at[0].via.u64 > end) continue;
        count++;
        if (at[0].via.u64 <= position) continue;
        if (at[0].via.u64 > position + 1) lost(position + 1, at[0].via.u64 - 1);
        static entry_t entry;
        bool is_entry = at[1].type == MSGPACK_OBJECT_STR && at[2].type == MSGPACK_OBJECT_BIN &&
                        read_entry(at[1].via.str.ptr, at[1].via.str.size, at[2].via.bin.ptr, at[2].via.bin.size, &entry);
        if (is_entry && entry.sequence == at[0].via.u64 && strcmp(entry.journal, journal) == 0)
            act(&entry);
        else
            lost(at[0].via.u64, at[0].via.u64);
    }
    if (count == 0 && position < end) lost(position + 1, end);
    go_on();
}

static void on_answer(const void *bytes, size_t size) {
    msgpack_unpacked unpacked;
    char named[sizeof journal], code[MAX_NAME + 1];
    uint64_t id = 0, first = 0, last = 0, wait = 1000;
    bool is_map = unpack(&unpacked, bytes, size, MAX_ANSWER);
    const msgpack_object *answer = &unpacked.data, *ok = is_map ? field(answer, "ok") : NULL;
    bool is_ok = ok != NULL && ok->type == MSGPACK_OBJECT_BOOLEAN && ok->via.boolean;
    bool has_id = is_map && number(answer, "id", &id);
    if (is_map && !is_ok && (!has_id || id == asked_id)) { /* refused; `rate` comes without an id: 5.3 */
        text(answer, "code", code, sizeof code);
        number(answer, "retry_ms", &wait);
        must_ask |= strcmp(code, "journal") == 0; /* 4.6 */
        if (strcmp(code, "journal") != 0) not_before_ms = now_ms() + (wait < 1000 ? (int64_t)wait : 1000);
        asked_id = 0;
    } else if (is_ok && has_id && id == asked_id && asked_id != 0) { /* 5.2: only what we still wait for */
        asked_id = 0;
        if (text(answer, "journal_id", named, sizeof named) && named[0] != 0 && number(answer, "last_sequence", &last)) {
            if (asked_snapshot) {
                number(answer, "first_sequence", &first);
                must_ask = false;
                if (strcmp(named, journal) != 0) {
                    follow(named, first, last);
                    asked_position = position, asked_known = last;
                }
                end_of_journal(last);
                go_on();
            } else if (strcmp(named, journal) == 0) {
                end_of_journal(last);
                on_range(answer, last);
            }
        }
    }
    msgpack_unpacked_destroy(&unpacked);
}

/* ---- the control socket (docs/control.md) ---- */

static bool expect(void *context, void (*protect)(void *)) {
    void *socket = zmq_socket(context, ZMQ_REQ); /* a new one each time: REQ is stuck after a lost answer */
    static char bytes[MAX_PAYLOAD];
    msgpack_sbuffer request;
    msgpack_packer to;
    msgpack_unpacked unpacked;
    protect(socket);
    if (zmq_connect(socket, options.control) != 0) stop(options.control, zmq_strerror(errno));
    msgpack_sbuffer_init(&request);
    msgpack_packer_init(&to, &request, msgpack_sbuffer_write);
    msgpack_pack_map(&to, 3);
    put(&to, "op"), put(&to, "expect");
    put(&to, "program"), put(&to, options.program);
    put(&to, "part_id"), put(&to, options.part);
    zmq_send(socket, request.data, request.size, 0);
    msgpack_sbuffer_destroy(&request);
    zmq_pollitem_t item = {socket, 0, ZMQ_POLLIN, 0};
    int size = zmq_poll(&item, 1, ASK_AGAIN_MS) > 0 ? zmq_recv(socket, bytes, sizeof bytes, 0) : 0;
    bool is_map = unpack(&unpacked, bytes, size < 0 ? 0 : (size_t)size, sizeof bytes);
    bool is_given = is_map && text(&unpacked.data, "seam_id", expected, sizeof expected) && expected[0] != 0;
    if (is_given) {
        printf("expect %s\n", expected);
    } else {
        static char error[MAX_TEXT + 1];
        if (is_map) text(&unpacked.data, "error", error, sizeof error);
        fprintf(stderr, "soft_plc: expect: %s\n", is_map ? error : "no answer");
    }
    msgpack_unpacked_destroy(&unpacked);
    zmq_close(socket);
    return is_given;
}

/* One turn of the PLC's program; false: done. */
static bool plc(void *context, void (*protect)(void *)) {
    if (options.control == NULL) return options.seams == 0 || acted < options.seams;
    int64_t now = now_ms();
    if (expected[0] != 0 && now > expected_until_ms) { /* no verdict in time is no OK */
        expected[0] = 0;
        last_label = 0;
        judged++;
    }
    if (expected[0] != 0) return true;
    if (options.seams != 0 && judged >= options.seams) return false;
    if (is_live && now > expected_until_ms) {
        last_label = 0;
        set_output(0);
        bool is_given = expect(context, protect);
        expected_until_ms = now_ms() + (is_given ? options.within_ms : 1000);
    }
    return true;
}

/* ---- sockets ---- */

static char server_key[KEY_CHARS + 1], public_key[KEY_CHARS + 1], secret_key[KEY_CHARS + 1];

static void read_key(const char *line, const char *name, char *key) {
    char form[64];
    snprintf(form, sizeof form, "%s = \"%%%d[^\"]\"", name, KEY_CHARS);
    sscanf(line, form, key);
}

static void read_keys(const char *path) {
    char line[1024];
    struct stat found;
    FILE *file = fopen(path, "r");
    if (file == NULL || fstat(fileno(file), &found) != 0) stop(path, strerror(errno));
    if ((found.st_mode & 077) != 0) stop(path, "others may read the secret key; chmod 600");
    while (fgets(line, sizeof line, file) != NULL) {
        read_key(line, "server_public", server_key);
        read_key(line, "public", public_key);
        read_key(line, "secret", secret_key);
    }
    fclose(file);
    if (strlen(server_key) != KEY_CHARS || strlen(public_key) != KEY_CHARS || strlen(secret_key) != KEY_CHARS)
        stop(path, "public, secret and server_public of 40 characters are needed");
}

static void set(void *socket, int option, int value) { zmq_setsockopt(socket, option, &value, sizeof value); }

static void protect(void *socket) { /* 1.3, 10 */
    set(socket, ZMQ_HEARTBEAT_IVL, 1000);
    set(socket, ZMQ_HEARTBEAT_TIMEOUT, 3000);
    set(socket, ZMQ_RECONNECT_IVL, 100);
    set(socket, ZMQ_RECONNECT_IVL_MAX, 1000);
    set(socket, ZMQ_LINGER, 0);
    if (options.keys == NULL) return;
    if (zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, server_key, KEY_CHARS) != 0 ||
        zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, public_key, KEY_CHARS) != 0 ||
        zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, secret_key, KEY_CHARS) != 0)
        stop(options.keys, zmq_strerror(errno));
}

static void *connected(void *context, int kind, int max_bytes, const char *endpoint) {
    void *socket = zmq_socket(context, kind);
    int64_t limit = max_bytes;
    protect(socket);
    zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &limit, sizeof limit);
    if (kind == ZMQ_SUB) { /* 1.5 */
        zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "verdict/", 8);
        zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "part", 4);
        zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "heartbeat", 9);
    }
    if (zmq_connect(socket, endpoint) != 0) stop(endpoint, zmq_strerror(errno));
    return socket;
}

/* The frames of one message, of which the first two are kept; 0: none is there. */
static int receive(void *socket, zmq_msg_t frames[2]) {
    int count = 0, more = 1;
    while (more) {
        zmq_msg_t beyond, *frame = count < 2 ? &frames[count] : &beyond;
        zmq_msg_init(frame);
        if (zmq_msg_recv(frame, socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(frame);
            return 0;
        }
        more = zmq_msg_more(frame);
        if (count >= 2) zmq_msg_close(&beyond);
        count++;
    }
    return count;
}

static void take(void *socket, bool is_published) {
    /* A message found now may have lain there since the queue was last seen empty, while we did something else:
     * a heartbeat counts as that old (6.2). */
    static int64_t empty_ms = INT64_MIN / 2;
    static entry_t entry;
    zmq_msg_t frames[2];
    for (int turn = 0; turn < 200; turn++) {
        int64_t before_ms = now_ms();
        int count = receive(socket, frames);
        if (count == 0) {
            if (is_published) empty_ms = before_ms;
            return;
        }
        zmq_msg_t *last = &frames[count > 1];
        const char *topic = zmq_msg_data(&frames[0]);
        size_t topic_size = zmq_msg_size(&frames[0]);
        if (!is_published)
            on_answer(zmq_msg_data(last), zmq_msg_size(last));
        else if (count == 2 && topic_size == 9 && memcmp(topic, "heartbeat", 9) == 0)
            on_heartbeat(zmq_msg_data(last), zmq_msg_size(last), empty_ms);
        else if (count == 2 && topic_size < MAX_TOPIC &&
                 read_entry(topic, topic_size, zmq_msg_data(last), zmq_msg_size(last), &entry))
            on_entry(&entry);
        for (int i = 0; i < (count < 2 ? count : 2); i++) zmq_msg_close(&frames[i]);
    }
}

/* The journal socket beside the verdicts' (1). */
static const char *beside(const char *verdicts) {
    static char found[4096];
    const char *colon = strrchr(verdicts, ':');
    if (strncmp(verdicts, "ipc://", 6) == 0)
        snprintf(found, sizeof found, "%s.journal", verdicts);
    else if (colon != NULL)
        snprintf(found, sizeof found, "%.*s:%d", (int)(colon - verdicts), verdicts, atoi(colon + 1) + 1);
    return found;
}

static void read_options(int count, char **words) {
    struct { const char *name, **value; } texts[] = {
        {"--verdicts", &options.verdicts}, {"--journal", &options.journal}, {"--control", &options.control},
        {"--keys", &options.keys},         {"--position", &options.position}, {"--program", &options.program},
        {"--part", &options.part},         {"--start", &options.start},
    };
    for (int i = 1; i < count; i += 2) {
        bool is_known = false;
        if (i + 1 == count) stop(words[i], "a value is needed");
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
            if (strcmp(words[i], texts[k].name) == 0) *texts[k].value = words[i + 1], is_known = true;
        if (strcmp(words[i], "--seams") == 0) options.seams = atol(words[i + 1]), is_known = true;
        if (strcmp(words[i], "--within-ms") == 0) options.within_ms = atol(words[i + 1]), is_known = true;
        if (!is_known) stop(words[i], "unknown; see the top of soft_plc.c");
    }
    if (options.control != NULL && options.program == NULL) stop("--control", "--program is needed with it");
    if (options.journal == NULL) options.journal = beside(options.verdicts);
}

int main(int count, char **words) {
    read_options(count, words);
    if (options.keys != NULL) read_keys(options.keys);
    FILE *kept = options.position == NULL ? NULL : fopen(options.position, "r");
    if (kept != NULL && fscanf(kept, "%256s %" SCNu64, kept_journal, &kept_position) != 2)
        stop(options.position, "no position; remove it");
    if (kept != NULL) fclose(kept);
    setvbuf(stdout, NULL, _IOLBF, 0);
    void *context = zmq_ctx_new();
    void *published = NULL, *answers = NULL;
    int64_t heard_ms = now_ms(), renew_ms = 0;
    set_output(0);
    do {
        if (is_live) {
            heard_ms = now_ms();
            renew_ms = RENEW_MS;
        } else if (now_ms() - heard_ms >= renew_ms) { /* 6.6: the connection may have ended for good */
            if (published != NULL) zmq_close(published);
            if (answers != NULL) zmq_close(answers);
            published = connected(context, ZMQ_SUB, MAX_SUB, options.verdicts);
            answers = connected(context, ZMQ_DEALER, MAX_ANSWER, options.journal);
            heard_ms = now_ms();
            renew_ms = renew_ms < RENEW_MS ? RENEW_MS : renew_ms * 2 > RENEW_MAX_MS ? RENEW_MAX_MS : renew_ms * 2;
        }
        zmq_pollitem_t items[] = {{published, 0, ZMQ_POLLIN, 0}, {answers, 0, ZMQ_POLLIN, 0}};
        zmq_poll(items, 2, TURN_MS);
        take(answers, false);
        take(published, true);
        ask(answers);
        bool was_live = is_live;
        is_live = journal[0] != 0 && strcmp(beat_journal, journal) == 0 && now_ms() - beat_ms <= STALE_MS;
        if (is_live != was_live) printf("state %s\n", is_live ? "live" : "stale");
        decide();
    } while (plc(context, protect));
    zmq_close(published);
    zmq_close(answers);
    zmq_ctx_term(context);
    return 0;
}

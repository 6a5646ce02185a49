#include "play.h"

#include <asm/unistd.h>
#include <linux/errno.h>

#define AGAIN_LIMIT 1000

long play_syscall(long number, const uint64_t args[TAPE_MAX_ARGS])
{
#if defined(__x86_64__)
    long result;
    register uint64_t r10 __asm__("r10") = args[3];
    register uint64_t r8 __asm__("r8") = args[4];
    register uint64_t r9 __asm__("r9") = args[5];
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(args[0]), "S"(args[1]), "d"(args[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#else
    register uint64_t x0 __asm__("x0") = args[0];
    register uint64_t x1 __asm__("x1") = args[1];
    register uint64_t x2 __asm__("x2") = args[2];
    register uint64_t x3 __asm__("x3") = args[3];
    register uint64_t x4 __asm__("x4") = args[4];
    register uint64_t x5 __asm__("x5") = args[5];
    register long x8 __asm__("x8") = number;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5), "r"(x8) : "memory");
    return (long)x0;
#endif
}

static unsigned kind_of(const struct tape_instruction *in, unsigned n)
{
    return (in->kinds >> (2 * n)) & 3;
}

enum { NUMBER = 1u << KIND_IMMEDIATE, VALUE = NUMBER | 1u << KIND_REGISTER };
enum { MEMORY = 1u << KIND_DATA | 1u << KIND_SHARED, ANY = VALUE | MEMORY, BY_WIDTH = 255 };

/* What each instruction takes: arguments, their kinds, bytes behind an address, whether it jumps. */
static const struct rule {
    uint8_t nargs, allowed, size, jumps;
} rules[] = {
    [OP_SYSCALL] = {TAPE_MAX_ARGS, ANY, 1, 0},
    [OP_ON_ERRNO] = {1, NUMBER, 0, 1},
    [OP_STORE] = {1, MEMORY, BY_WIDTH, 0},
    [OP_LOAD] = {1, MEMORY, BY_WIDTH, 0},
    [OP_JUMP_MASK] = {2, VALUE, 0, 1},
    [OP_DECIMAL] = {1, MEMORY, TAPE_DECIMAL_BYTES, 0},
    [OP_HALT] = {1, NUMBER, 0, 0},
    [OP_LANE] = {1, NUMBER, 0, 0},
    [OP_FAIL] = {1, NUMBER, 0, 0},
    [OP_SET] = {1, ANY, 1, 0},
};

/* An argument is of an allowed kind, and if it is an address, `size` bytes there are the tape's. */
static int good_arg(const struct play *p, uint64_t arg, unsigned kind, const struct rule *rule, unsigned size)
{
    if (!(rule->allowed >> kind & 1))
        return 0;
    if (kind == KIND_DATA)
        return size <= p->data_length && arg <= p->data_length - size;
    if (kind == KIND_SHARED)
        return arg >= TAPE_SLOTS_OFFSET && arg <= TAPE_PAGE - size;
    return kind == KIND_IMMEDIATE || arg < TAPE_REGISTERS;
}

static int good_instruction(const struct play *p, uint32_t pc)
{
    const struct tape_instruction *in = &p->code[pc];

    if (in->op == 0 || in->op > OP_SET)
        return 0;
    const struct rule *rule = &rules[in->op];
    unsigned size = rule->size == BY_WIDTH ? in->b : rule->size;
    if (in->nargs > rule->nargs || (in->nargs < rule->nargs && in->op != OP_SYSCALL))
        return 0;
    if (rule->jumps && (in->target <= pc || in->target >= p->instructions))
        return 0;
    if (rule->size == BY_WIDTH && size != 4 && size != 8)
        return 0;
    for (unsigned n = 0; n < in->nargs; n++)
        if (!good_arg(p, in->args[n], kind_of(in, n), rule, size))
            return 0;
    return in->op != OP_LANE || in->args[0] < TAPE_LANES;
}

static int bad(struct play *p, uint32_t pc)
{
    p->lane->step = pc < p->instructions ? p->code[pc].step : 0;
    p->lane->pc = pc;
    p->lane->error = EINVAL;
    p->lane->state = LANE_FAILED;
    return -EINVAL;
}

/* Header, code, data, relocations lie in this order: what was checked cannot be changed by what is played. */
static int good_header(const struct tape_header *h, size_t length)
{
    uint64_t code_end = h->code + (uint64_t)h->instructions * sizeof(struct tape_instruction);
    uint64_t data_end = (uint64_t)h->data + h->data_length;
    uint64_t end = h->relocations + (uint64_t)h->relocation_count * sizeof(uint32_t);

    return __builtin_memcmp(h->magic, TAPE_MAGIC, sizeof h->magic) == 0 && h->arch == TAPE_ARCH && h->zero == 0 &&
           h->instructions > 0 && h->code >= sizeof *h && h->code % 8 == 0 && h->data >= code_end && h->data % 8 == 0 &&
           h->relocations >= data_end && h->relocations % 4 == 0 && end <= length;
}

int play_load(struct play *p, void *shared_page, void *image, size_t image_len)
{
    const struct tape_header *h = image;

    p->page = shared_page;
    p->lane = shared_page;
    p->instructions = 0;
    if (image_len < sizeof *h || !good_header(h, image_len))
        return bad(p, 0);
    p->code = (const void *)((unsigned char *)image + h->code);
    p->data = (unsigned char *)image + h->data;
    p->data_length = h->data_length;
    p->instructions = h->instructions;
    for (unsigned n = 0; n < TAPE_REGISTERS; n++)
        p->registers[n] = 0;

    for (uint32_t pc = 0; pc < p->instructions; pc++)
        if (!good_instruction(p, pc))
            return bad(p, pc);
    uint8_t last = p->code[p->instructions - 1].op;
    if (last != OP_HALT && last != OP_FAIL)
        return bad(p, p->instructions - 1);

    const uint32_t *relocations = (const void *)((unsigned char *)image + h->relocations);
    for (uint32_t n = 0; n < h->relocation_count; n++) {
        uint64_t pointer;
        if (p->data_length < sizeof pointer || relocations[n] > p->data_length - sizeof pointer)
            return bad(p, p->instructions);
        __builtin_memcpy(&pointer, p->data + relocations[n], sizeof pointer);
        if (pointer >= p->data_length)
            return bad(p, p->instructions);
        pointer += (uint64_t)(uintptr_t)p->data;
        __builtin_memcpy(p->data + relocations[n], &pointer, sizeof pointer);
    }
    return 0;
}

static uint64_t value_of(const struct play *p, const struct tape_instruction *in, unsigned n)
{
    unsigned kind = kind_of(in, n);

    if (kind == KIND_IMMEDIATE)
        return in->args[n];
    if (kind == KIND_REGISTER)
        return (uint64_t)p->registers[in->args[n]];
    return (uint64_t)(uintptr_t)(kind == KIND_DATA ? p->data : p->page) + in->args[n];
}

/* RESOLVE_IN_ROOT gives up with EAGAIN whenever somebody else mounts or renames at the same time. */
static long call(const struct play *p, const struct tape_instruction *in)
{
    uint64_t args[TAPE_MAX_ARGS];
    unsigned attempts = 0;
    long result;

    for (unsigned n = 0; n < TAPE_MAX_ARGS; n++)
        args[n] = n < in->nargs ? value_of(p, in, n) : 0;
    do
        result = play_syscall((int)in->target, args);
    while ((result == -EINTR && in->target != __NR_close) ||
           (result == -EAGAIN && in->target == __NR_openat2 && ++attempts < AGAIN_LIMIT));
    return result;
}

static void copy(void *to, const void *from, uint8_t width)
{
    if (width == 8)
        __builtin_memcpy(to, from, 8);
    else
        __builtin_memcpy(to, from, 4);
}

static unsigned write_decimal(unsigned char *to, uint64_t value)
{
    unsigned length = 1;

    for (uint64_t rest = value; rest >= 10; rest /= 10)
        length++;
    for (unsigned n = length; n > 0; value /= 10)
        to[--n] = (unsigned char)('0' + value % 10);
    return length;
}

static int finish(struct play *p, enum tape_lane_state state, int64_t value, int code, int in_process)
{
    p->lane->value = value;
    p->lane->state = state;
    if (!in_process)
        play_syscall(__NR_exit_group, (const uint64_t[TAPE_MAX_ARGS]){(uint64_t)code});
    return code;
}

/* One process's failure is often the end of another's pipe: the order tells which came first. */
static int fail(struct play *p, int64_t error, int64_t value, int in_process)
{
    const struct tape_lane *lanes = (const void *)p->page;
    unsigned order = 1;

    for (unsigned n = 0; n < TAPE_LANES; n++)
        order += lanes[n].state == LANE_FAILED;
    p->lane->order = order;
    p->lane->error = (int32_t)error;
    return finish(p, LANE_FAILED, value, PLAY_FAILED, in_process);
}

/* The number of the instruction that handles the failure of the call at pc; 0 if none does. */
static uint32_t handler(const struct play *p, uint32_t pc, long error)
{
    for (const struct tape_instruction *in = &p->code[pc + 1]; in->op == OP_ON_ERRNO; in++)
        if (in->args[0] == 0 || in->args[0] == (uint64_t)error)
            return in->target;
    return 0;
}

int play_run(struct play *p, int in_process)
{
    int64_t *r = p->registers;

    p->lane->state = LANE_RUNNING;
    for (uint32_t pc = 0;;) {
        const struct tape_instruction *in = &p->code[pc];
        uint32_t next = pc + 1;
        void *at;

        if (p->lane->state != LANE_FAILED) /* a clone in its parent's lane still: the failure stays */
            p->lane->step = in->step, p->lane->pc = pc;
        switch (in->op) {
        case OP_SYSCALL:
            r[in->dst] = call(p, in);
            if (r[in->dst] < 0 && r[in->dst] >= -4095) {
                next = handler(p, pc, -r[in->dst]);
                if (next == 0)
                    return fail(p, -r[in->dst], r[in->dst], in_process);
            }
            break;
        case OP_STORE:
            at = (void *)(uintptr_t)value_of(p, in, 0);
            copy(at, &r[in->a], in->b);
            break;
        case OP_LOAD:
            at = (void *)(uintptr_t)value_of(p, in, 0);
            r[in->dst] = 0;
            copy(&r[in->dst], at, in->b);
            break;
        case OP_JUMP_MASK:
            if (((uint64_t)r[in->a] & value_of(p, in, 0)) == value_of(p, in, 1))
                next = in->target;
            break;
        case OP_DECIMAL:
            at = (void *)(uintptr_t)value_of(p, in, 0);
            r[in->dst] = write_decimal(at, (uint64_t)r[in->a]);
            break;
        case OP_LANE:
            p->lane = (struct tape_lane *)(void *)p->page + in->args[0];
            p->lane->step = in->step;
            p->lane->pc = pc;
            p->lane->state = LANE_RUNNING;
            break;
        case OP_HALT:
            return finish(p, LANE_HALTED, (int64_t)in->args[0], (int)in->args[0], in_process);
        case OP_FAIL:
            return fail(p, (int64_t)in->args[0], -(int64_t)in->args[0], in_process);
        case OP_SET:
            r[in->dst] = (int64_t)value_of(p, in, 0);
            break;
        default: /* ON_ERRNO, reached after a success */
            break;
        }
        pc = next;
    }
}

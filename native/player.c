/*
 * player: plays the tape in descriptor 3 and nothing else. Page 0 of it is shared with whoever ordered the play, the
 * rest is private. It starts for every container, so it does without libc: fewer pages to touch, none to relocate.
 */
#include "play.h"

#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/close_range.h>
#include <linux/mman.h>

static struct play play;

static long call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    return play_syscall(number, (const uint64_t[TAPE_MAX_ARGS]){a, b, c, d, e, f});
}

static void *map(uint64_t length, int flags, uint64_t offset)
{
    long address = call(__NR_mmap, 0, length, PROT_READ | PROT_WRITE, (uint64_t)flags, TAPE_FD, offset);
    return address < 0 && address >= -4095 ? 0 : (void *)address;
}

/*
 * What the starter ignores or blocks must not reach the container: every signal to its default (sigaction(2)), none
 * blocked. SIGKILL and SIGSTOP refuse, which is as good.
 */
static void reset_signals(void)
{
    static const uint64_t standard[4];
    for (uint64_t signal = 1; signal <= 64; signal++)
        call(__NR_rt_sigaction, signal, (uint64_t)(uintptr_t)standard, 0, sizeof(uint64_t), 0, 0);
    call(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, (uint64_t)(uintptr_t)standard, 0, sizeof(uint64_t), 0, 0);
}

static int player(void)
{
    struct stat st;

    reset_signals();
    /* Started before its tape is made: a byte comes when that is there, the end of the pipe when there will be none. */
    if (call(__NR_read, GO_FD, (uint64_t)(uintptr_t)&st, 1, 0, 0, 0) == 0)
        return PLAY_BAD_TAPE;
    if (call(__NR_fstat, TAPE_FD, (uint64_t)(uintptr_t)&st, 0, 0, 0, 0) != 0 || st.st_size <= TAPE_PAGE)
        return PLAY_BAD_TAPE;
    void *page = map(TAPE_PAGE, MAP_SHARED, 0);
    void *image = map((uint64_t)st.st_size - TAPE_PAGE, MAP_PRIVATE, TAPE_PAGE);
    if (!page || !image)
        return PLAY_BAD_TAPE;
    call(__NR_close, TAPE_FD, 0, 0, 0, 0, 0);
    call(__NR_close_range, TAPE_FD, ~0u, CLOSE_RANGE_CLOEXEC, 0, 0, 0);
    if (play_load(&play, page, image, (size_t)st.st_size - TAPE_PAGE) != 0)
        return PLAY_BAD_TAPE;
    return play_run(&play, 0);
}

#ifdef WHERRY_NOLIBC
/* The stack is aligned at the entry as no C function expects it; player() is called with it put right. */
__attribute__((noreturn, used)) static void start(void)
{
    for (;;)
        call(__NR_exit_group, (uint64_t)player(), 0, 0, 0, 0, 0);
}
#ifdef __x86_64__
__asm__(".globl _start\n_start: xor %ebp, %ebp\n call start\n");
#else
__asm__(".globl _start\n_start: bl start\n");
#endif
#else
int main(void) { return player(); }
#endif

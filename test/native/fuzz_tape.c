/*
 * Feeds damaged tapes to the player's loader, and plays those that it accepts if they make no system call. Built with
 * AddressSanitizer and UndefinedBehaviorSanitizer; deterministic.
 *   fuzz_tape ROUNDS SEED TAPE...    each file is an image without the shared page
 * Prints "refused N accepted N played N". With ROUNDS 0 the tapes are only loaded as they are; exit 1 if one is refused.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../native/play.h"

static uint64_t state;

static uint32_t random32(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static unsigned char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        exit(3);
    *length = (size_t)ftell(file);
    unsigned char *bytes = malloc(*length);
    rewind(file);
    if (!bytes || fread(bytes, 1, *length, file) != *length)
        exit(3);
    fclose(file);
    return bytes;
}

static void damage(unsigned char *image, size_t *length)
{
    static const uint32_t interesting[] = {0, 1, 2, 7, 39, 40, 64, 127, 128, 255, 256, 4088, 4095, 4096, 0x7fffffff,
                                           0x80000000, 0xfffffff8, 0xffffffff};
    for (unsigned n = 1 + random32() % 4; n > 0 && *length > 0; n--) {
        /* Half of the hits go to the header and the first instructions, where one byte matters most. */
        size_t at = random32() % (random32() % 2 && *length > 256 ? 256 : *length);
        uint32_t value = interesting[random32() % (sizeof interesting / sizeof *interesting)];
        switch (random32() % 5) {
        case 0:
            image[at] = (unsigned char)random32();
            break;
        case 1:
            image[at] ^= (unsigned char)(1u << (random32() % 8));
            break;
        case 2:
            if (at / 4 * 4 + 4 <= *length)
                memcpy(image + at / 4 * 4, &value, 4);
            break;
        case 3:
            value = random32() % 64;
            if (at / 4 * 4 + 4 <= *length)
                memcpy(image + at / 4 * 4, &value, 4);
            break;
        default:
            if (random32() % 8 == 0)
                *length = random32() % (*length + 1);
        }
    }
}

static int calls_the_kernel(const struct play *p)
{
    for (uint32_t pc = 0; pc < p->instructions; pc++)
        if (p->code[pc].op == OP_SYSCALL)
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    static struct play p;
    unsigned long counts[3] = {0};

    if (argc < 4)
        return 3;
    long rounds = atol(argv[1]);
    state = strtoull(argv[2], NULL, 0) | 1;
    for (int file = 3; file < argc; file++) {
        size_t whole;
        unsigned char *original = read_file(argv[file], &whole);
        for (long round = 0; round < (rounds ? rounds : 1); round++) {
            size_t length = whole;
            unsigned char *scratch = malloc(whole + 1);
            if (!scratch)
                return 3;
            memcpy(scratch, original, whole);
            if (rounds)
                damage(scratch, &length);
            /* Exactly as large as the loader is told, so that one byte too far is found. */
            unsigned char *image = malloc(length + !length);
            unsigned char *page = calloc(1, TAPE_PAGE);
            if (!image || !page)
                return 3;
            memcpy(image, scratch, length);
            int accepted = play_load(&p, page, image, length) == 0;
            counts[accepted]++;
            if (accepted && !calls_the_kernel(&p)) {
                play_run(&p, 1);
                counts[2]++;
            }
            free(scratch);
            free(image);
            free(page);
        }
        free(original);
    }
    printf("refused %lu accepted %lu played %lu\n", counts[0], counts[1], counts[2]);
    return rounds == 0 && counts[0] > 0;
}

/*
 * What a memory test writes into a word, and what it reports: the one definition shared by the CUDA kernels
 * (vram.cu) and by whatever else executes the same kernels. harness/payload/memory_patterns.py states the
 * values a second time, for the controller's own answers.
 *
 * SD_FN is how the includer wants functions declared; SD_NOTE_* are its atomic operations.
 */
#ifndef SHAKEDOWN_VRAM_PATTERNS_H
#define SHAKEDOWN_VRAM_PATTERNS_H

typedef unsigned long long sd_u64;

#define SD_CONSTANT 0u     /* the argument itself */
#define SD_WALKING_ONE 1u  /* one bit set, a place further in each word; the argument is where it begins */
#define SD_WALKING_ZERO 2u /* the same, one bit clear */
#define SD_ADDRESS 3u      /* the word's own byte offset, exclusive-or the argument */
#define SD_RANDOM 4u       /* a hash of the word's index; the argument is the seed */
#define SD_KINDS 5u

#define SD_RECORDS 64 /* faults kept with place and values; further ones are counted */

struct sd_fault {
    sd_u64 index;
    sd_u64 expected;
    sd_u64 got;
};

struct sd_report {
    sd_u64 checked;    /* words really compared */
    sd_u64 mismatches; /* of them wrong */
    sd_u64 sum;        /* of all words read, modulo 2^64 */
    sd_u64 bits;       /* every bit that was wrong anywhere */
    struct sd_fault faults[SD_RECORDS];
};

/* The word at `index`, counted over the whole tested memory. The hash costs two multiplications, so that
 * even a card with 8 TB/s waits for its memory and not for this. */
SD_FN sd_u64 sd_value(unsigned kind, sd_u64 index, sd_u64 argument)
{
    if (kind == SD_WALKING_ONE)
        return 1ull << ((index + argument) & 63);
    if (kind == SD_WALKING_ZERO)
        return ~(1ull << ((index + argument) & 63));
    if (kind == SD_ADDRESS)
        return (index * 8) ^ argument;
    if (kind == SD_RANDOM) {
        sd_u64 z = index * 0x9E3779B97F4A7C15ull + argument;
        z = (z ^ (z >> 32)) * 0xD6E8FEB86659FD93ull;
        return z ^ (z >> 32);
    }
    return argument;
}

#endif

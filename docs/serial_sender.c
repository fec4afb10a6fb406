/* Sender of edged's serial block frames (docs/serial-frame.md) for an ADC board, C99, no heap.
 *
 * A board keeps serial_sender_frame() and the three functions above it, calls it once per full block and hands the
 * bytes to its UART. main() stands in for the board: it sends a known ramp to the tty that its first argument names
 * ("-": stdout).
 *
 *   cc -std=c99 -O2 -o serial_sender serial_sender.c && ./serial_sender /dev/ttyUSB0 100
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHANNELS 3u
#define BLOCK_SAMPLES 50u
#define PLAIN_BYTES (8u + 2u * BLOCK_SAMPLES * CHANNELS + 2u)
#define FRAME_BYTES (PLAIN_BYTES + PLAIN_BYTES / 254u + 2u)

/* CRC-16/CCITT-FALSE; bit by bit is fast enough for 200 blocks a second on a Cortex-M0. */
static uint16_t crc16(const uint8_t *data, size_t n)
{
    uint16_t crc = 0xFFFFu;
    for (size_t i = 0; i < n; i++) {
        crc = (uint16_t)(crc ^ (uint16_t)(data[i] << 8));
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(((uint32_t)crc << 1) ^ ((crc & 0x8000u) ? 0x1021u : 0u));
    }
    return crc;
}

static uint8_t *put_u16(uint8_t *at, uint16_t value)
{
    *at++ = (uint8_t)(value & 0xFFu);
    *at++ = (uint8_t)(value >> 8);
    return at;
}

/* Consistent overhead byte stuffing; returns the encoded length, the ending 0x00 included. */
static size_t cobs(const uint8_t *plain, size_t n, uint8_t *out)
{
    uint8_t *code_at = out, *at = out + 1;
    uint8_t code = 1;
    for (size_t i = 0; i < n; i++) {
        if (plain[i] != 0) {
            *at++ = plain[i];
            code++;
        }
        if (plain[i] == 0 || (code == 0xFFu && i + 1 < n)) {
            *code_at = code;
            code_at = at++;
            code = 1;
        }
    }
    *code_at = code;
    *at++ = 0;
    return (size_t)(at - out);
}

/* One block → frame in `out` (FRAME_BYTES long); returns its length. Count `sequence` up for dropped blocks too. */
size_t serial_sender_frame(uint32_t sequence, int16_t samples[BLOCK_SAMPLES][CHANNELS], uint8_t *out)
{
    uint8_t plain[PLAIN_BYTES], *at = plain;
    *at++ = 1; /* version */
    *at++ = CHANNELS;
    at = put_u16(at, BLOCK_SAMPLES);
    at = put_u16(at, (uint16_t)(sequence & 0xFFFFu));
    at = put_u16(at, (uint16_t)(sequence >> 16));
    for (size_t i = 0; i < BLOCK_SAMPLES; i++)
        for (size_t c = 0; c < CHANNELS; c++)
            at = put_u16(at, (uint16_t)samples[i][c]);
    put_u16(at, crc16(plain, PLAIN_BYTES - 2u));
    return cobs(plain, PLAIN_BYTES, out);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s TTY BLOCKS\n", argv[0]);
        return 2;
    }
    FILE *tty = argv[1][0] == '-' ? stdout : fopen(argv[1], "wb");
    if (tty == NULL) {
        perror(argv[1]);
        return 1;
    }
    fputc(0, tty); /* ends whatever noise came before */
    for (uint32_t sequence = 0; sequence < (uint32_t)atol(argv[2]); sequence++) {
        int16_t samples[BLOCK_SAMPLES][CHANNELS];
        for (uint32_t i = 0; i < BLOCK_SAMPLES; i++) {
            const int32_t k = (int32_t)((sequence * BLOCK_SAMPLES + i) % 30000u);
            samples[i][0] = (int16_t)k;
            samples[i][1] = (int16_t)-k;
            samples[i][2] = (int16_t)(k % 256); /* many zero bytes, for COBS */
        }
        uint8_t frame[FRAME_BYTES];
        const size_t n = serial_sender_frame(sequence, samples, frame);
        if (fwrite(frame, 1, n, tty) != n || fflush(tty) != 0) {
            perror(argv[1]);
            return 1;
        }
    }
    return fclose(tty) == 0 ? 0 : 1;
}

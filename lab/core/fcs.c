// SPDX-License-Identifier: GPL-2.0-only
/* The Ethernet CRC-32 (IEEE 802.3 clause 3.2.9), eight bytes a step. */
#include "internal.h"

#define POLYNOMIAL	0xedb88320U

static uint32_t table[8][256];

__attribute__((constructor)) static void fill_table(void)
{
	int i, k;

	for (i = 0; i < 256; i++) {
		uint32_t crc = (uint32_t)i;

		for (k = 0; k < 8; k++)
			crc = (crc >> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
		table[0][i] = crc;
	}
	for (i = 0; i < 256; i++)
		for (k = 1; k < 8; k++)
			table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 0xff];
}

uint32_t exa_fcs(const uint8_t *data, uint32_t length)
{
	uint32_t crc = 0xffffffffU;

	for (; length >= 8; length -= 8, data += 8) {
		crc ^= (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
		       (uint32_t)data[3] << 24;
		crc = table[7][crc & 0xff] ^ table[6][(crc >> 8) & 0xff] ^
		      table[5][(crc >> 16) & 0xff] ^ table[4][crc >> 24] ^ table[3][data[4]] ^
		      table[2][data[5]] ^ table[1][data[6]] ^ table[0][data[7]];
	}
	while (length--)
		crc = (crc >> 8) ^ table[0][(crc ^ *data++) & 0xff];
	return ~crc;
}

bool exa_intact(const uint8_t *frame, uint32_t length)
{
	const uint8_t *fcs = frame + length - EXA_FCS_SIZE;

	if (length < EXA_RUNT)
		return false;
	return exa_fcs(frame, length - EXA_FCS_SIZE) ==
	       ((uint32_t)fcs[0] | (uint32_t)fcs[1] << 8 | (uint32_t)fcs[2] << 16 |
		(uint32_t)fcs[3] << 24);
}

/* Writes the FCS behind the length bytes of a frame. */
void exa_seal(uint8_t *frame, uint32_t length)
{
	uint32_t crc = exa_fcs(frame, length);

	frame[length] = (uint8_t)crc;
	frame[length + 1] = (uint8_t)(crc >> 8);
	frame[length + 2] = (uint8_t)(crc >> 16);
	frame[length + 3] = (uint8_t)(crc >> 24);
}

"""The ExaNIC's registers, declared once.

From these rows come the Python model (:mod:`lab.card.register_file`), the C header
(``datapath/include/exanic_regs.h``) and the page ``lab/card/REGISTERS.md``;
``python -m lab.card.registers_generate`` writes the two files
and a test refuses drift. Source: reference/exanic-hardware.md sections 2 to 5.
"""

from __future__ import annotations

from lab.card.register_table import Access, Block, Field, Register

RO, RW, WO = Access.RO, Access.RW, Access.WO

COMMON = Block("COMMON", 0x0000, "Common registers", "3")
HARDWARE = Block("HW", 0x0100, "Hardware-specific registers", "4")
PORT = Block("PORT", 0x0200, "Port block", "5", stride=0x40, bank_base=0x1200)
STATS = Block("STATS", 0x0400, "Port statistics", "5", stride=0x40, bank_base=0x1400)
EXT = Block("EXT", 0x0800, "Extended port block", "5", stride=0x100, bank_base=0x1800)
BLOCKS = (COMMON, HARDWARE, PORT, STATS, EXT)


def bit(name: str, position: int, meaning: str) -> Field:
    """A field of one bit."""
    return Field(name, position, position, meaning)


PCIE_IF_VER = Register("PCIE_IF_VER", COMMON, 0x00, RO, "interface version; writes are harmless", "3", 1)
HW_ID = Register("HW_ID", COMMON, 0x04, RO, "model number", "1")
FEATURE_CFG = Register(
    "FEATURE_CFG",
    COMMON,
    0x08,
    RW,
    "mirroring, bridging, start-up state",
    "3",
    fields=(
        Field("MIRROR", 5, 0, "bit 2p mirrors RX of port p, bit 2p+1 its TX, p = 0..2"),
        bit("BRIDGE", 6, "bridge ports 0 and 1"),
        Field("AUX_STRAP", 14, 8, "the seven bits above as strapped by the auxiliary source"),
        bit("AUX_ENABLE", 16, "auxiliary source enabled; writing 0 turns it off for good"),
        bit("BUSY", 17, "start-up still running"),
        bit("DRAM", 18, "DRAM fitted"),
        Field("MIRROR_OUT", 23, 20, "mirror output port"),
    ),
)
DMA_ADDR_WIDTH = Register("DMA_ADDR_WIDTH", COMMON, 0x10, RO, "DMA address bits, 32..64", "3", 64)
_LOW = (bit("32BIT", 0, "1: a 32-bit address"), Field("ADDR", 31, 12, "page-aligned address, low half"))
TX_FEEDBACK_BASE_HI = Register("TX_FEEDBACK_BASE_HI", COMMON, 0x14, RW, "feedback page, high half", "3")
TX_FEEDBACK_BASE_LO = Register(
    "TX_FEEDBACK_BASE_LO", COMMON, 0x18, RW, "feedback page, low half; written first", "3", fields=_LOW
)
MAC_ADDR_OUI = Register("MAC_ADDR_OUI", COMMON, 0x1C, RO, "card's OUI", "3", 0x5F3F64)
FUNCTION_ID = Register("FUNCTION_ID", COMMON, 0x20, RO, "what the image is; 0 is a NIC", "3")
HW_TIME = Register("HW_TIME", COMMON, 0x24, RO, "clock counter, low half", "3")
CLK_SET = Register("CLK_SET", COMMON, 0x28, WO, "load the counter; commits CLK_SET_HI with it", "3")
CLK_ADJ = Register(
    "CLK_ADJ",
    COMMON,
    0x2C,
    RW,
    "one tick more or less every n ticks; 0 is off",
    "3",
    fields=(Field("TICKS", 23, 0, "n"), bit("ADD", 24, "1 adds, 0 skips")),
)
PPS_TIMESTAMP = Register("PPS_TIMESTAMP", COMMON, 0x30, RO, "counter at the last PPS edge", "3")
CLK_HZ = Register("CLK_HZ", COMMON, 0x34, RO, "nominal rate of the counter", "3")
CAPS = Register(
    "CAPS",
    COMMON,
    0x38,
    RO,
    "what the card can do",
    "3",
    fields=(
        bit("RX_MSI", 0, "RX interrupts"),
        bit("TWO_TUPLE", 1, "two-tuple steering"),
        bit("HOT_RELOAD", 2, "hot reload"),
        bit("JTAG", 3, "JTAG over PCIe"),
        bit("ATE", 4, "accelerated TCP engine"),
        bit("CLK_64", 8, "64-bit clock"),
        bit("CLK_ADJ_EXT", 9, "fine clock correction"),
        bit("IDENTIFY", 10, "LED identify"),
        bit("BRIDGING", 16, "bridging"),
        bit("MIRRORING", 17, "mirroring"),
        bit("NO_TX_PAD", 18, "TX padding can be turned off"),
        bit("NO_TX_CRC", 19, "TX CRC can be turned off"),
        bit("MIRROR_EXT", 20, "MIRROR_ENABLE_EXT exists"),
        bit("100M", 24, "100 Mb/s"),
        bit("1G", 25, "1 Gb/s"),
        bit("10G", 26, "10 Gb/s"),
        bit("40G", 27, "40 Gb/s"),
        bit("100G", 28, "100 Gb/s"),
        bit("25G", 29, "25 Gb/s"),
        bit("25G_S", 30, "25 Gb/s with BASE-R FEC only"),
    ),
)
HW_TIME_HI = Register("HW_TIME_HI", COMMON, 0x3C, RO, "clock counter, high half", "3")
CLK_SET_HI = Register("CLK_SET_HI", COMMON, 0x40, WO, "high half to load; written before CLK_SET", "3")
CLK_ADJ_EXT = Register("CLK_ADJ_EXT", COMMON, 0x44, RW, "signed correction, parts per 2^40", "3")
IDENTIFY_TIMER = Register("IDENTIFY_TIMER", COMMON, 0x48, WO, "blink the LEDs for so many seconds", "3")
PORTS_ATE_STATUS = Register("PORTS_ATE_STATUS", COMMON, 0x4C, RO, "bit p: port p has ATE", "3")
MIRROR_ENABLE_EXT = Register(
    "MIRROR_ENABLE_EXT", COMMON, 0x50, RW, "bit 2p mirrors RX of port p, bit 2p+1 its TX", "3"
)
PPS_LED_CTRL = Register(
    "PPS_LED_CTRL", COMMON, 0x80, RW, "PPS LED", "3", fields=(bit("GREEN", 0, "green"), bit("RED", 1, "red"))
)
NUM_FILTER_BUFFERS = Register("NUM_FILTER_BUFFERS", COMMON, 0x84, RO, "steering buffers per port", "3")
DEVKIT_REGS_OFFSET = Register("DEVKIT_REGS_OFFSET", COMMON, 0x88, RO, "devkit registers in BAR0", "3")
DEVKIT_MEM_OFFSET = Register("DEVKIT_MEM_OFFSET", COMMON, 0x8C, RO, "devkit memory in BAR2", "3")
DEVKIT_LICENSE = Register("DEVKIT_LICENSE", COMMON, 0x90, RO, "0 full, 1 evaluation, 2 free", "3")
DEVKIT_USER_VERSION = Register("DEVKIT_USER_VERSION", COMMON, 0x94, RO, "user's version", "3")
DEVKIT_APPLICATION_ID = Register("DEVKIT_APPLICATION_ID", COMMON, 0xAC, RO, "user's application", "3")
HW_REV_DATE = Register("HW_REV_DATE", COMMON, 0x0C, RO, "firmware build time, unix seconds", "3", 0x66E4_0000)

RELOAD_RESET = Register(
    "RELOAD_RESET", HARDWARE, 0x00, WO, "reload from flash", "4", fields=(bit("RELOAD", 0, "reload"),)
)
TEMPERATURE = Register("TEMPERATURE", HARDWARE, 0x0C, RO, "raw die temperature", "4")
BOARD_ID = Register("BOARD_ID", HARDWARE, 0x10, RO, "board (X2, X4)", "4")
VCCINT = Register("VCCINT", HARDWARE, 0x14, RO, "raw core voltage, 3/4096 V", "4")
VCCAUX = Register("VCCAUX", HARDWARE, 0x18, RO, "raw auxiliary voltage, 3/4096 V", "4")
I2C_GPIO = Register(
    "I2C_GPIO",
    HARDWARE,
    0x2C,
    RW,
    "bit-banged I2C, open drain",
    "11",
    fields=(
        Field("SDA_LOW", 6, 0, "bit n: pull SDA of bus n low"),
        bit("SCL_LOW", 7, "pull the shared SCL low"),
        Field("SDA_IN", 14, 8, "bit 8+n: level of SDA of bus n"),
        bit("SCL_IN", 15, "level of SCL"),
        Field("MODSEL", 31, 16, "bit 16+m: MODSELn pin of cage m; 0 selects"),
    ),
)
POWERDOWN = Register(
    "POWERDOWN",
    HARDWARE,
    0x38,
    RW,
    "power of PHYs and modules",
    "4",
    fields=(
        Field("PHY", 3, 0, "bit n: external PHY n powered down (X2, X4)"),
        Field("MODULE_TX", 19, 4, "bit 4+p: module TX of port p is on"),
    ),
)
FLASH_ADDR = Register("FLASH_ADDR", HARDWARE, 0x3C, RW, "parallel flash address", "4")
FLASH_DOUT = Register("FLASH_DOUT", HARDWARE, 0x40, RW, "parallel flash data out", "4")
FLASH_CTRL = Register("FLASH_CTRL", HARDWARE, 0x44, RW, "parallel flash control lines", "4")
FLASH_DIN = Register("FLASH_DIN", HARDWARE, 0x48, RO, "parallel flash data in", "4")
PRBS_CTRL = Register("PRBS_CTRL", HARDWARE, 0x4C, RW, "bit-error test (X2, X4)", "4")
PRBS_ERR = Register("PRBS_ERR", HARDWARE, 0x50, RO, "bit errors seen (X2, X4)", "4")
SERIAL_PPS = Register(
    "SERIAL_PPS",
    HARDWARE,
    0x54,
    RW,
    "serial and PPS pins",
    "4",
    fields=(
        bit("RS485_TX_CTRL", 0, "RS-485 TX control"),
        bit("RS485_TX", 1, "RS-485 TX"),
        bit("RS485_RX", 2, "RS-485 RX (read only)"),
        bit("DIFF_IN", 3, "differential PPS in (read only)"),
        bit("SINGLE_IN", 4, "single-ended PPS in (read only)"),
        bit("SINGLE", 5, "1: single-ended source"),
        bit("TERMINATE", 6, "50-ohm termination on"),
        bit("OUT_ENABLE", 7, "PPS out enabled"),
        bit("OUT_LEVEL", 8, "PPS out level"),
        bit("RISING", 9, "1: rising edge"),
    ),
)
FAN_REV_COUNTER = Register("FAN_REV_COUNTER", HARDWARE, 0x58, RO, "fan pulses", "4")
NEXT_PER_OUT = Register("NEXT_PER_OUT", HARDWARE, 0x5C, WO, "counter low half at the next pulse", "4")
PER_OUT_WIDTH = Register("PER_OUT_WIDTH", HARDWARE, 0x60, RW, "pulse length, ticks", "4")
PER_OUT_CONFIG = Register(
    "PER_OUT_CONFIG",
    HARDWARE,
    0x64,
    RW,
    "periodic output",
    "4",
    fields=(bit("1PPS", 0, "1 PPS"), bit("10MHZ", 1, "10 MHz")),
)
MISC_GPIO = Register(
    "MISC_GPIO", HARDWARE, 0x68, RO, "misc. pins", "4", fields=(bit("EXT_12V", 0, "external 12 V (V5P)"),)
)
QSPI_OPCODE = Register("QSPI_OPCODE", HARDWARE, 0x98, RW, "serial flash operation (X100)", "4")
QSPI_DATA_OUT = Register("QSPI_DATA_OUT", HARDWARE, 0x9C, RW, "serial flash data out (X100)", "4")
QSPI_DATA_IN = Register("QSPI_DATA_IN", HARDWARE, 0xA0, RO, "serial flash data in and status (X100)", "4")

PORT_ENABLED = Register("ENABLED", PORT, 0x00, RW, "1: RX DMA is running", "5")
PORT_SPEED = Register("SPEED", PORT, 0x04, RW, "Mb/s", "5", 10000)
PORT_STATUS = Register(
    "STATUS",
    PORT,
    0x08,
    RO,
    "state of the port",
    "5",
    fields=(
        bit("ENABLED", 0, "enabled"),
        bit("MODULE", 1, "module present"),
        bit("SIGNAL", 2, "signal"),
        bit("LINK", 3, "link is up"),
        bit("AUTONEG_DONE", 4, "autonegotiation done"),
        bit("RX_TIME_WAIT", 5, "RX timestamps not ready"),
        bit("TX_TIME_WAIT", 6, "TX timestamps not ready"),
        bit("NO_RX", 24, "RX unsupported"),
        bit("NO_TX", 25, "TX unsupported"),
        bit("ABSENT", 31, "port not implemented"),
    ),
)
PORT_MAC_NIC = Register("MAC_ADDR_NIC", PORT, 0x0C, RW, "last three octets; first of them in [7:0]", "5")
PORT_FLAGS = Register(
    "FLAGS",
    PORT,
    0x10,
    RW,
    "behaviour of the port",
    "5",
    fields=(
        bit("PROMISC", 0, "deliver every good frame"),
        bit("FEC_BASER", 1, "force BASE-R FEC"),
        bit("FEC_RS", 2, "force RS FEC"),
        bit("AUTONEG", 3, "autonegotiate"),
        bit("LOOPBACK", 4, "TX goes to RX"),
        bit("NO_TX_PAD", 5, "do not pad short frames"),
        bit("NO_TX_CRC", 6, "do not append the CRC"),
    ),
)
PORT_RX_BASE_HI = Register("RX_DMA_BASE_HI", PORT, 0x14, RW, "RX ring, high half", "5")
PORT_RX_BASE_LO = Register("RX_DMA_BASE_LO", PORT, 0x18, RW, "RX ring, low half", "5", fields=_LOW)
PORT_TX_TYPES = Register(
    "TX_SUPPORTED_TYPES",
    PORT,
    0x1C,
    RO,
    "chunk types the port sends",
    "5",
    1,
    fields=(bit("RAW", 0, "raw frames"), bit("TCP_ACCEL", 1, "segments of the TCP engine")),
)
PORT_TX_COMMAND = Register("TX_COMMAND", PORT, 0x20, RW, "offset in BAR2 of a chunk to send", "8.3")
PORT_TX_OFFSET = Register("TX_REGION_OFFSET", PORT, 0x24, RO, "start of the port's part of BAR2", "8.1")
PORT_TX_SIZE = Register("TX_REGION_SIZE", PORT, 0x28, RO, "its length in bytes", "8.1")
PORT_TX_LAST_TIME = Register("TX_LAST_TIME", PORT, 0x2C, RO, "counter at the last frame sent", "8.6")
PORT_MAC_OUI = Register("MAC_ADDR_OUI", PORT, 0x30, RW, "first three octets; first in [7:0]", "5")
PORT_IRQ_CONFIG = Register(
    "IRQ_CONFIG",
    PORT,
    0x34,
    RW,
    "one interrupt when this ring position is written",
    "7.5",
    fields=(
        Field("CHUNK", 13, 0, "chunk"),
        Field("GENERATION", 21, 14, "generation"),
        Field("POSITION", 21, 0, "generation * 16384 + chunk"),
        bit("ARM", 31, "armed"),
    ),
)
PORT_HASH_CONFIG = Register(
    "HASH_CONFIG",
    PORT,
    0x38,
    RW,
    "spreading over filter buffers",
    "12",
    fields=(
        Field("MASK", 7, 0, "buffers - 1"),
        Field("FUNCTION", 11, 8, "0 ports, 1 addresses, 2 both"),
        bit("ENABLE", 31, "on"),
    ),
)

STATS_RESET = Register("RESET", STATS, 0x00, WO, "any write zeroes the port's counters", "5")
STATS_TX = Register("TX", STATS, 0x04, RO, "frames sent", "5")
STATS_RX = Register("RX", STATS, 0x08, RO, "good frames delivered", "5")
STATS_RX_IGNORED = Register("RX_IGNORED", STATS, 0x0C, RO, "good frames not delivered", "5")
STATS_RX_ERROR = Register("RX_ERROR", STATS, 0x10, RO, "frames with errors", "5")
STATS_RX_DROPPED = Register("RX_DROPPED", STATS, 0x14, RO, "frames dropped in hardware", "5")

EXT_IP_RULES = Register("IP_RULES", EXT, 0x00, RO, "number of IP rules", "5")
EXT_MAC_RULES = Register("MAC_RULES", EXT, 0x04, RO, "number of MAC rules", "5")
EXT_HASH_FUNCTIONS = Register("HASH_FUNCTIONS", EXT, 0x08, RO, "number of hash functions", "5")
EXT_AN_CONTROL = Register(
    "AN_CONTROL",
    EXT,
    0x40,
    RW,
    "autonegotiation control",
    "5",
    fields=(bit("RESTART", 0, "restart"), bit("IGNORE_NONCE", 8, "ignore a nonce match")),
)
_ABILITY = (
    Field("TECHNOLOGIES", 10, 0, "technologies"),
    bit("FEC_RS", 18, "RS FEC"),
    bit("FEC_BASER", 19, "BASE-R FEC"),
    Field("NONCE", 24, 20, "nonce seed"),
)
EXT_AN_ABILITY = Register("AN_ABILITY", EXT, 0x44, RW, "what we offer", "5", fields=_ABILITY)
EXT_AN_STATUS = Register(
    "AN_STATUS",
    EXT,
    0x48,
    RO,
    "result",
    "5",
    fields=(
        bit("GOOD", 0, "done, good"),
        bit("PARTNER_ABLE", 8, "the partner negotiates"),
        Field("RESULT", 14, 12, "1 10G-KR, 2 40G-CR4, 3 25G-CR, 4 25G-CR-S"),
        bit("FEC_BASER", 16, "BASE-R FEC chosen"),
        bit("FEC_RS", 17, "RS FEC chosen"),
    ),
)
EXT_AN_PARTNER = Register("AN_PARTNER", EXT, 0x4C, RO, "what the partner offers", "5", fields=_ABILITY)
EXT_LINK_DELAY = Register("LINK_DELAY", EXT, 0x50, RW, "link-up check delay, 20 ns units", "5")
EXT_AN_ARBITER = Register(
    "AN_ARBITER", EXT, 0x54, RO, "arbiter", "5", fields=(Field("STATE", 3, 0, "0..10"),)
)

#: Every register, in address order within its block.
REGISTERS: tuple[Register, ...] = tuple(
    sorted(
        (value for value in list(globals().values()) if isinstance(value, Register)),
        key=lambda register: (BLOCKS.index(register.block), register.offset),
    )
)

// Behavioural model of the subset of the DSP48E2 slice that rtl/tech/dsp48e2.py instantiates.
//
// This model is ours. It is not Xilinx's: it was written from the description of the slice in the public user guide UG579
// (UltraScale Architecture DSP Slice) and has not been compared with a vendor model or with silicon. It exists because yosys
// knows the slice as a black box only. A setting outside the subset stops the simulation instead of being half modelled.
//
// Subset: pre-adder on the A side, 27 x 18 multiplier, one 48-bit adder with Z from zero, PCIN, P or C, W from zero, P, RND or C, X and Y
// both from the multiplier, both zero, or from A:B and C; carry in, all enables as given, controls without registers, OPMODE inverters;
// no reset, no SIMD, pattern detector, wide XOR, carry or A/B cascade; outputs P and PCOUT.
`default_nettype none
/* verilator lint_off DECLFILENAME */
/* verilator lint_off UNUSEDSIGNAL */
/* verilator lint_off UNUSEDPARAM */
module DSP48E2 #(
    parameter USE_MULT = "MULTIPLY", parameter USE_SIMD = "ONE48",
    parameter USE_PATTERN_DETECT = "NO_PATDET", parameter USE_WIDEXOR = "FALSE",
    parameter AMULTSEL = "A", parameter BMULTSEL = "B", parameter PREADDINSEL = "A",
    parameter A_INPUT = "DIRECT", parameter B_INPUT = "DIRECT",
    parameter integer AREG = 1, parameter integer ACASCREG = 1, parameter integer BREG = 1, parameter integer BCASCREG = 1,
    parameter integer CREG = 1, parameter integer DREG = 1, parameter integer ADREG = 1,
    parameter integer MREG = 1, parameter integer PREG = 1,
    parameter integer INMODEREG = 1, parameter integer OPMODEREG = 1, parameter integer ALUMODEREG = 1,
    parameter integer CARRYINREG = 1, parameter integer CARRYINSELREG = 1,
    parameter [47:0] RND = 0, parameter [8:0] IS_OPMODE_INVERTED = 0
) (
    input wire CLK,
    input wire [29:0] A, input wire [17:0] B, input wire [47:0] C, input wire [26:0] D,
    input wire [29:0] ACIN, input wire [17:0] BCIN, input wire [47:0] PCIN,
    input wire CARRYIN, input wire CARRYCASCIN, input wire MULTSIGNIN,
    input wire [4:0] INMODE, input wire [8:0] OPMODE, input wire [3:0] ALUMODE, input wire [2:0] CARRYINSEL,
    input wire CEA1, input wire CEA2, input wire CEB1, input wire CEB2, input wire CEC, input wire CED, input wire CEAD,
    input wire CEM, input wire CEP, input wire CEALUMODE, input wire CECARRYIN, input wire CECTRL, input wire CEINMODE,
    input wire RSTA, input wire RSTB, input wire RSTC, input wire RSTD, input wire RSTM, input wire RSTP,
    input wire RSTALLCARRYIN, input wire RSTALUMODE, input wire RSTCTRL, input wire RSTINMODE,
    output wire [47:0] PCOUT, output wire [47:0] P
);
    initial begin
        if ((USE_MULT != "MULTIPLY" && USE_MULT != "NONE") || USE_SIMD != "ONE48" || USE_PATTERN_DETECT != "NO_PATDET" || USE_WIDEXOR != "FALSE"
            || AMULTSEL != (USE_MULT == "NONE" ? "A" : "AD") || BMULTSEL != "B" || PREADDINSEL != "A" || A_INPUT != "DIRECT" || B_INPUT != "DIRECT")
            $fatal(1, "DSP48E2 model: an attribute is outside the modelled subset");
        if (AREG < 1 || AREG > 2 || BREG < 1 || BREG > 2 || CREG > 1 || DREG > 1 || ADREG > 1 || MREG > 1 || PREG != 1
            || ACASCREG != AREG || BCASCREG != BREG
            || INMODEREG != 0 || OPMODEREG != 0 || ALUMODEREG != 0 || CARRYINREG != 0 || CARRYINSELREG != 0)
            $fatal(1, "DSP48E2 model: a register attribute is outside the modelled subset");
    end

    reg [29:0] a1 = 0, a2 = 0;
    reg [17:0] b1 = 0, b2 = 0;
    reg [47:0] c1 = 0, p1 = 0;
    reg [26:0] d1 = 0, ad1 = 0;
    reg signed [44:0] m1 = 0;

    // Input registers. With one register the second of the two (A2, B2) is the one in use.
    always @(posedge CLK) begin
        if (CEA1) a1 <= A;
        if (CEA2) a2 <= (AREG == 2) ? a1 : A;
        if (CEB1) b1 <= B;
        if (CEB2) b2 <= (BREG == 2) ? b1 : B;
        if (CEC) c1 <= C;
        if (CED) d1 <= D;
    end

    // Pre-adder: INMODE[0] takes A1, [1] zeroes A, [2] lets D through, [3] subtracts; INMODE[4] takes B1.
    wire [26:0] a_term = INMODE[1] ? 27'd0 : INMODE[0] ? a1[26:0] : a2[26:0];
    wire [26:0] d_term = INMODE[2] ? d1 : 27'd0;
    wire [26:0] ad = INMODE[3] ? d_term - a_term : d_term + a_term;
    always @(posedge CLK) if (CEAD) ad1 <= ad;

    // Multiplier, 27 x 18, signed.
    wire signed [26:0] multiplicand = (ADREG == 1) ? ad1 : ad;
    wire signed [17:0] multiplier = INMODE[4] ? b1 : b2;
    wire signed [44:0] product = multiplicand * multiplier;
    always @(posedge CLK) if (CEM) m1 <= product;
    wire signed [44:0] m = (MREG == 1) ? m1 : product;

    // ALU: P = Z + W + X + Y + carry.
    wire [8:0] opmode = OPMODE ^ IS_OPMODE_INVERTED;
    wire [47:0] c = (CREG == 1) ? c1 : C;
    wire [47:0] mw = {{3{m[44]}}, m};
    reg [47:0] w, z, xy;
    always @(*) begin
        case (opmode[8:7])
            2'b00: w = 48'd0;
            2'b01: w = p1;
            2'b10: w = RND;
            default: w = c;
        endcase
        case (opmode[6:4])
            3'b000: z = 48'd0;
            3'b001: z = PCIN;
            3'b010: z = p1;
            3'b011: z = c;
            default: z = 48'hx;
        endcase
        case (opmode[3:0])
            4'b0000: xy = 48'd0;
            4'b0101: xy = mw;
            4'b1111: xy = {a2, b2} + c;
            default: xy = 48'hx;
        endcase
    end
    always @(posedge CLK) begin
        if ((opmode[3:0] == 4'b0101) != (USE_MULT == "MULTIPLY") && opmode[3:0] != 4'b0000 || opmode[3:0] == 4'b1111 && AREG != BREG
            || opmode[3:0] != 4'b0000 && opmode[3:0] != 4'b0101 && opmode[3:0] != 4'b1111 || opmode[6]
            || ALUMODE != 4'b0000 || CARRYINSEL != 3'b000)
            $fatal(1, "DSP48E2 model: an operation is outside the modelled subset");
        if (RSTA || RSTB || RSTC || RSTD || RSTM || RSTP || RSTALLCARRYIN || RSTALUMODE || RSTCTRL || RSTINMODE)
            $fatal(1, "DSP48E2 model: resets are outside the modelled subset");
        if (CEP) p1 <= z + w + xy + {47'd0, CARRYIN};
    end

    assign P = p1;
    assign PCOUT = p1;
endmodule
`default_nettype wire

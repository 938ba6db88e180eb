import { validateSync, ValidateBy, type ValidationArguments } from 'class-validator';

/** Holds when `faultOf` finds nothing; its sentence is the message otherwise. */
export function Faultless(faultOf: (value: unknown) => string | undefined): PropertyDecorator {
  return ValidateBy({
    name: 'faultless',
    validator: {
      validate: (value: unknown) => faultOf(value) === undefined,
      defaultMessage: (checked?: ValidationArguments) => faultOf(checked?.value) ?? '',
    },
  });
}

/** The first member that breaks a rule of its class, and which. */
export function faultIn(checked: object): { field: string; message: string } | undefined {
  const [fault] = validateSync(checked, { stopAtFirstError: true });
  return fault && { field: fault.property, message: Object.values(fault.constraints ?? {}).join(' ') };
}
